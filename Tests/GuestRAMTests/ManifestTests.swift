import CLinux
import Testing

@testable import GuestRAM

/// The sentence that came with this thread's last error.
func lastError() -> String { String(cString: cl_error_buffer()) }

/// Calls body with the text's bytes.
func withBytes<Result>(
    of text: String, _ body: (UnsafeRawBufferPointer) throws -> Result
) rethrows -> Result {
    try Array(text.utf8).withUnsafeBytes(body)
}

/// The lines with the checksum line that belongs to them.
func sealed(_ lines: String) -> String {
    let digits = String(withBytes(of: lines) { crc64($0) }, radix: 16)
    return lines + "checksum crc64=" + String(repeating: "0", count: 16 - digits.count) + digits + "\n"
}

/// Parses the text and writes what was understood again.
func parsedAndWritten(_ text: String) throws(Errno) -> String {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count, alignment: 1)
    defer { bytes.deallocate() }
    bytes.copyBytes(from: text.utf8)
    let manifest = try Manifest.parse(UnsafeRawBufferPointer(bytes))
    let buffer = try Mapping(anonymous: Manifest.maximumBytes + 1)
    return String(decoding: manifest.write(to: buffer), as: UTF8.self)
}

private let good = """
    guestram-snapshot 1
    memory bytes=12582912
    state bytes=100 crc64=1a933a4dc1212ace
    region name=ram type=shmem sharing=shared length=5242880 page-size=4096 file-offset=0 data=8192
    region name=rom.0 type=anon sharing=private length=8192 page-size=4096 file-offset=6291456 data=0
    region name=huge type=hugetlb sharing=shared length=4194304 page-size=2097152 file-offset=8388608 data=0
    slot region=ram guest-physical=0x0 offset=0 length=1048576
    slot region=rom.0 guest-physical=0xf00000000 offset=4096 length=4096

    """

@Suite struct ManifestTests {
    @Test func checksumIsThatOfXZ() {
        #expect(withBytes(of: "123456789") { crc64($0) } == 0x995d_c9bb_df19_39fa)
        #expect(withBytes(of: "") { crc64($0) } == 0)
    }

    @Test func aManifestIsReadAndWrittenUnchanged() throws {
        #expect(try parsedAndWritten(sealed(good)) == sealed(good))
    }

    @Test func aMemoryWithoutRegionsIsPossible() throws {
        let text = sealed("guestram-snapshot 1\nmemory bytes=0\n")
        #expect(try parsedAndWritten(text) == text)
    }

    @Test func whatWasReadIsWhatWasWritten() throws {
        try withBytes(of: sealed(good)) {
            let manifest = try Manifest.parse($0)
            #expect(manifest.memoryBytes == 12_582_912)
            #expect(manifest.stateBytes == 100)
            #expect(manifest.stateChecksum == 0x1a93_3a4d_c121_2ace)
            let regions = manifest.regions.elements
            #expect(regions.count == 3)
            #expect(regions[0].type == UInt32(GUESTRAM_SHMEM))
            #expect(!regions[0].isPrivate)
            #expect(regions[0].dataBytes == 8192)
            #expect(regions[1].isPrivate)
            #expect(regions[1].type == UInt32(GUESTRAM_ANON))
            #expect(regions[2].type == UInt32(GUESTRAM_HUGETLB))
            #expect(regions[2].name.equals(RegionName("huge")!))
            #expect(regions[2].pageSize == 2 << 20)
            #expect(regions[2].fileOffset == 8 << 20)
            let slots = manifest.slots.elements
            #expect(slots.count == 2)
            #expect(slots[1].regionIndex == 1)
            #expect(slots[1].guestPhysical == 0xf_0000_0000)
            #expect(slots[1].offset == 4096)
            #expect(slots[1].length == 4096)
        }
    }

    struct Damage: CustomTestStringConvertible, Sendable {
        let from: String, to: String, message: String
        var code = EINVAL
        var testDescription: String { "\(from) -> \(to)" }
    }

    static let damages = [
        Damage(from: "snapshot 1", to: "snapshot 2", message: "newer", code: EPROTONOSUPPORT),
        Damage(from: "snapshot 1", to: "snapshot 0", message: "no snapshot format 0"),
        Damage(from: "guestram-snapshot 1", to: "", message: "line 1"),
        Damage(from: "memory bytes=12582912\n", to: "", message: "line 2"),
        Damage(from: "memory bytes=12582912", to: "memory bytes=9223372036854775808", message: "line 2"),
        Damage(from: "memory bytes=12582912", to: "memory bytes=18446744073709551616", message: "line 2"),
        Damage(from: "memory bytes=12582912", to: "memory bytes=012582912", message: "line 2"),
        Damage(from: "memory bytes=12582912", to: "memory bytes=", message: "line 2"),
        Damage(from: "memory bytes=12582912", to: "memory bytes=12582912 ", message: "line 2"),
        Damage(from: "memory bytes=12582912", to: "memory bytes=12578816", message: "beyond the memory file's 12578816 bytes"),
        Damage(from: "state bytes=100", to: "state bytes=0", message: "state of 0 bytes"),
        Damage(from: "state bytes=100", to: "state bytes=1073741825", message: "1073741825"),
        Damage(from: "1a933a4dc1212ace", to: "1A933a4dc1212ace", message: "line 3"),
        Damage(from: "name=ram", to: "name=", message: "line 4"),
        Damage(from: "name=ram", to: "name=r/m", message: "line 4"),
        Damage(from: "name=rom.0", to: "name=ram", message: "line 5: a second region of the name ram"),
        Damage(from: "name=ram", to: "name=" + String(repeating: "x", count: 64), message: "line 4"),
        Damage(from: "type=anon", to: "type=paper", message: "line 5"),
        Damage(from: "sharing=private", to: "sharing=both", message: "line 5"),
        Damage(from: "length=8192 ", to: "length=0 ", message: "line 5: region rom.0: length 0"),
        Damage(from: "length=8192 ", to: "length=8193 ", message: "length 8193"),
        Damage(from: "length=8192 ", to: "length=18446744073709547520 ", message: "beyond"),
        Damage(from: "length=8192 ", to: "length=4194304 ", message: "line 6: region huge: file-offset 8388608 overlaps"),
        Damage(from: "page-size=2097152", to: "page-size=2097151", message: "page-size 2097151"),
        Damage(from: "page-size=2097152", to: "page-size=0", message: "page-size 0"),
        Damage(from: "page-size=2097152", to: "page-size=512", message: "page-size 512"),
        Damage(from: "page-size=2097152", to: "page-size=2147483648", message: "page-size 2147483648"),
        Damage(from: "file-offset=6291456", to: "file-offset=6295552", message: "not a multiple of 2097152"),
        Damage(from: "file-offset=6291456", to: "file-offset=4194304", message: "overlaps the region before, which ends at 5242880"),
        Damage(from: "file-offset=6291456", to: "file-offset=18446744073707454464", message: "rom.0"),
        Damage(from: "data=8192", to: "data=5242881", message: "data 5242881 is more than its length"),
        Damage(from: "region=rom.0", to: "region=rom.1", message: "slot of rom.1, which is no region"),
        Damage(from: "0xf00000000", to: "0xff000", message: "line 8: slot at 0xff000 overlaps the slot before, which ends at 0x100000"),
        Damage(from: "0xf00000000", to: "0xfffffffffffff000", message: "beyond the address space"),
        Damage(from: "0xf00000000", to: "0xf00000800", message: "multiples of 4096"),
        Damage(from: "0xf00000000", to: "64424509440", message: "line 8"),
        Damage(from: "0xf00000000", to: "0x0f00000000", message: "line 8"),
        Damage(from: "offset=4096 length=4096", to: "offset=4096 length=8192", message: "beyond the region's 8192 bytes"),
        Damage(from: "offset=4096 length=4096", to: "offset=12288 length=4096", message: "beyond the region's 8192 bytes"),
        Damage(from: "offset=4096 length=4096", to: "offset=4096 length=0", message: "line 8"),
        Damage(from: "slot region=ram", to: "colour red\nslot region=ram", message: "line 7"),
        Damage(from: "slot region=ram", to: "\nslot region=ram", message: "line 7"),
        Damage(from: "slot region=ram", to: "parent ../base\nslot region=ram", message: "newer", code: EPROTONOSUPPORT),
        Damage(from: "slot region=ram", to: "working-set first\nslot region=ram", message: "newer", code: EPROTONOSUPPORT),
        Damage(from: "\n", to: "\r\n", message: "line 1"),
    ]

    @Test(arguments: damages) func damageIsNamed(_ damage: Damage) throws {
        let range = try #require(good.firstRange(of: damage.from))
        let lines = good.replacingCharacters(in: range, with: damage.to)
        #expect(throws: Errno(damage.code)) { try parsedAndWritten(sealed(lines)) }
        #expect(lastError().contains(damage.message), "\(lastError())")
    }

    @Test func regionsStandBeforeSlots() {
        let lines = good.split(separator: "\n")
        let swapped = (lines[..<5] + [lines[6], lines[5]]).joined(separator: "\n") + "\n"
        #expect(throws: Errno(EINVAL)) { try parsedAndWritten(sealed(swapped)) }
        #expect(lastError().contains("line 7"), "\(lastError())")
    }

    @Test func everyChangedBitIsFound() {
        var bytes = Array(sealed(good).utf8)
        for index in bytes.indices {
            for bit in 0..<8 {
                bytes[index] ^= 1 << bit
                let found = bytes.withUnsafeBytes {
                    do throws(Errno) { _ = try Manifest.parse($0); return false } catch { return true }
                }
                #expect(found, "byte \(index), bit \(bit)")
                bytes[index] ^= 1 << bit
            }
        }
    }

    @Test func everyTruncationIsFound() {
        let text = sealed(good)
        for count in 0..<text.utf8.count {
            let cut = String(text.utf8.prefix(count))!
            #expect(throws: Errno(EINVAL), "\(count) bytes") { try parsedAndWritten(cut) }
        }
    }

    /// With a right checksum, as an attacker would give it: refused, or understood completely.
    @Test func whatIsCutAndSealedAgainIsNeverHalfUnderstood() throws {
        for count in 0..<good.utf8.count {
            let text = sealed(String(good.utf8.prefix(count))!)
            do throws(Errno) {
                #expect(try parsedAndWritten(text) == text)
            } catch {
                #expect(error == Errno(EINVAL))
            }
        }
    }

    @Test func theLargestManifestFitsAndOneMoreDoesNot() throws {
        func name(_ number: Int) -> String {
            let digits = String(number)
            return String(repeating: "n", count: 63 - digits.count) + digits
        }
        let page: UInt64 = 4096
        let step: UInt64 = 1 << 52 // long numbers
        var lines = "guestram-snapshot 1\nmemory bytes=9223372036854775807\n"
        lines += "state bytes=1073741824 crc64=0123456789abcdef\n"
        func region(_ number: Int) -> String {
            let offset = step * UInt64(number)
            return "region name=\(name(number)) type=guest_memfd sharing=private "
                + "length=\(step) page-size=\(page) file-offset=\(offset) data=\(step)\n"
        }
        func slot(_ number: Int) -> String {
            let address = UInt64.max - 4097 * page + 1 + UInt64(number) * page
            return "slot region=\(name(1023)) guest-physical=0x\(String(address, radix: 16)) "
                + "offset=\(step - page) length=\(page)\n"
        }
        var regions = "", slots = ""
        for number in 0..<1024 { regions += region(number) }
        for number in 0..<4096 { slots += slot(number) }
        let text = sealed(lines + regions + slots)
        #expect(text.utf8.count < Manifest.maximumBytes)
        #expect(try parsedAndWritten(text) == text)

        #expect(throws: Errno(EINVAL)) {
            try parsedAndWritten(sealed(lines + regions + region(1024)))
        }
        #expect(lastError().contains("more than 1024 regions"), "\(lastError())")
        #expect(throws: Errno(EINVAL)) {
            try parsedAndWritten(sealed(lines + regions + slots + slot(4096)))
        }
        #expect(lastError().contains("more than 4096 slots"), "\(lastError())")
    }
}

extension String {
    /// The string module has these only in newer versions, or in Foundation.
    fileprivate func firstRange(of part: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].utf8.starts(with: part.utf8) {
                return start..<utf8.index(start, offsetBy: part.utf8.count)
            }
            start = utf8.index(after: start)
        }
        return nil
    }

    fileprivate func replacingCharacters(in range: Range<String.Index>, with part: String) -> String {
        String(self[..<range.lowerBound]) + part + String(self[range.upperBound...])
    }
}
