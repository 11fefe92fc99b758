import CLinux
import Testing

@testable import GuestRAM

/// Bytes that look like nothing in particular.
private func noise(_ count: Int) -> [UInt8] {
    var state: UInt64 = 88_172_645_463_325_252
    return (0..<count).map { _ in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return UInt8(truncatingIfNeeded: state >> 32)
    }
}

private func sums(_ pages: [UInt8]) -> [UInt32] {
    var result = [UInt32](repeating: 0xdead_beef, count: pages.count / 4096)
    cl_crc32c_pages(pages, result.count, &result)
    return result
}

@Suite struct PageChecksumTests {
    /// RFC 3720, B.4: the bytes and their CRC, which begins with and ends in all ones.
    static let known: [([UInt8], UInt32)] = [
        ([UInt8](repeating: 0, count: 32), 0x8a91_36aa),
        ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
        ((0..<32).map { UInt8($0) }, 0x46dd_794e),
        ((0..<32).map { UInt8(31 - $0) }, 0x113f_db5c),
        (
            [
                0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
                0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
                0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            ], 0xd996_3a56
        ),
        (Array("123456789".utf8), 0xe306_9283),
    ]

    @Test func checksumIsThatOfTheRFC() {
        for (bytes, crc) in Self.known { #expect(~cl_crc32c(~0, bytes, bytes.count) == crc) }
    }

    /// Begun with 0, zeros in front change nothing: a vector at a page's end has its own checksum,
    /// less that of as many zeros. This reaches the CPU's instruction where it is used.
    @Test func pagesHaveTheChecksumOfTheRFC() {
        for (bytes, crc) in Self.known {
            let zeros = ~cl_crc32c(~0, [UInt8](repeating: 0, count: bytes.count), bytes.count)
            let page = [UInt8](repeating: 0, count: 4096 - bytes.count) + bytes
            for count in 1...7 {
                let pages = [[UInt8]](repeating: page, count: count).flatMap { $0 }
                #expect(sums(pages) == [UInt32](repeating: crc ^ zeros, count: count))
            }
        }
    }

    @Test func everyNumberOfPagesIsTheSameAsOneByOne() {
        let bytes = noise(100 * 4096)
        let one = (0..<100).map { cl_crc32c(0, Array(bytes[$0 * 4096..<($0 + 1) * 4096]), 4096) }
        for count in 1...100 { #expect(sums(Array(bytes[..<(count * 4096)])) == Array(one[..<count])) }
    }

    @Test func theFirstDifferentPageIsFound() {
        let bytes = noise(100 * 4096)
        var expected = sums(bytes)
        #expect(cl_crc32c_first_difference(bytes, 100, expected) == 100)
        for page in stride(from: 99, through: 0, by: -1) {
            expected[page] ^= 0x8000_0000
            #expect(cl_crc32c_first_difference(bytes, 100, expected) == page)
            #expect(cl_crc32c_first_difference(bytes, page, expected) == page)
        }
    }

    @Test func zerosHaveNone() {
        #expect(sums([UInt8](repeating: 0, count: 5 * 4096)) == [0, 0, 0, 0, 0])
    }

    @Test func everyFlippedBitIsFound() {
        var page = noise(4096)
        let whole = sums(page)
        for index in page.indices {
            page[index] ^= 1 << (index % 8)
            #expect(sums(page) != whole)
            page[index] ^= 1 << (index % 8)
        }
    }
}

@Suite struct CRC64Tests {
    @Test func piecesAreTheWhole() {
        let bytes = noise(1000)
        for cut in stride(from: 0, through: 1000, by: 37) {
            var crc = CRC64()
            bytes[..<cut].withUnsafeBytes { crc.add($0) }
            bytes[cut...].withUnsafeBytes { crc.add($0) }
            #expect(crc.value == bytes.withUnsafeBytes { crc64($0) })
        }
    }

    @Test(arguments: [0, 1, 2, 7, 8, 9, 255, 4096, 100_001]) func zerosAreCountedNotRead(_ count: Int) {
        var crc = CRC64()
        var bytes = noise(100)
        bytes.withUnsafeBytes { crc.add($0) }
        crc.add(zeros: UInt64(count))
        bytes.withUnsafeBytes { crc.add($0) }
        bytes += [UInt8](repeating: 0, count: count) + bytes
        #expect(crc.value == bytes.withUnsafeBytes { crc64($0) })
    }

    /// What a loop over them would take years for.
    @Test func zerosAddUp() {
        var once = CRC64(), twice = CRC64()
        once.add(zeros: 1 << 60 + 12345)
        twice.add(zeros: 1 << 60)
        twice.add(zeros: 12345)
        #expect(once.value == twice.value)
    }
}

@Suite struct ChecksumsLineTests {
    private let good = """
        guestram-snapshot 1
        memory bytes=2097152
        checksums bytes=2048 crc64=00000000000000ff
        region name=ram type=anon sharing=private length=2097152 page-size=4096 file-offset=0 data=0

        """

    @Test func itIsReadAndWrittenUnchanged() throws {
        #expect(try parsedAndWritten(sealed(good)) == sealed(good))
        let behindState = good.replacing(
            "\nchecksums", with: "\nstate bytes=1 crc64=0000000000000000\nchecksums")
        #expect(try parsedAndWritten(sealed(behindState)) == sealed(behindState))
        let empty = sealed(
            "guestram-snapshot 1\nmemory bytes=0\nchecksums bytes=0 crc64=0000000000000000\n")
        #expect(try parsedAndWritten(empty) == empty)
        let odd = sealed(
            "guestram-snapshot 1\nmemory bytes=4097\nchecksums bytes=8 crc64=0000000000000000\n")
        #expect(try parsedAndWritten(odd) == odd)
    }

    @Test(arguments: [
        ("bytes=2048", "bytes=2047", "line 3: checksums of 2047 bytes: a memory file of 2097152 has 2048"),
        ("bytes=2048", "bytes=2052", "line 3"),
        ("bytes=2048", "bytes=0", "line 3"),
        ("bytes=2048 ", "", "line 3"),
        (" crc64=00000000000000ff", "", "line 3"),
        ("crc64=00000000000000ff", "crc64=ff", "line 3"),
        ("crc64=00000000000000ff", "crc64=00000000000000ff ", "line 3"),
        ("file-offset=0 data=0", "file-offset=4096 data=0", "line 4"),
        ("file-offset=0 data=0\n", "file-offset=0 data=0\nchecksums bytes=2048 crc64=00000000000000ff\n", "line 5"),
        ("checksums bytes=2048", "checksums bytes=2048 crc64=00000000000000ff\nchecksums bytes=2048", "line 4"),
    ]) func damageIsNamed(_ from: String, _ to: String, _ message: String) {
        #expect(throws: Errno(EINVAL)) { try parsedAndWritten(sealed(good.replacing(from, with: to))) }
        #expect(lastError().contains(message), "\(lastError())")
    }
}

extension String {
    /// The string module has this only in newer versions, or in Foundation. The first one.
    fileprivate func replacing(_ part: String, with other: String) -> String {
        let text = Array(utf8), wanted = Array(part.utf8)
        for start in 0...(text.count - wanted.count) where text[start...].starts(with: wanted) {
            return String(
                decoding: text[..<start] + Array(other.utf8) + text[(start + wanted.count)...],
                as: UTF8.self)
        }
        return self
    }
}
