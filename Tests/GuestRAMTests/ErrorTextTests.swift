import CLinux
import Testing

@testable import GuestRAM

/// What a buffer of `capacity` bytes holds after `body`, and how long the whole text is.
private func written(
    _ capacity: Int, _ body: (inout TextBuffer) -> Void
) -> (text: String, wanted: Int) {
    let bytes = UnsafeMutablePointer<CChar>.allocate(capacity: capacity + 1)
    defer { bytes.deallocate() }
    bytes.initialize(repeating: 0x7f, count: capacity + 1)
    var buffer = TextBuffer(bytes, capacity: capacity)
    body(&buffer)
    #expect(bytes[capacity] == 0x7f, "nothing is written behind the buffer")
    return (capacity == 0 ? "" : String(cString: bytes), buffer.wanted)
}

@Suite struct ErrorTextTests {
    @Test func numbersAreWrittenWhole() {
        let text = written(200) {
            for number in [0, -1, 10, Int64.max, Int64.min] {
                $0.append(number)
                $0.append(" ")
            }
            $0.append(UInt64.max)
        }.text
        #expect(text == "0 -1 10 9223372036854775807 -9223372036854775808 18446744073709551615")
    }

    @Test func hexIsWrittenAsInC() {
        let text = written(100) {
            $0.append(hex: 0)
            $0.append(hex: 0xab_cdef)
            $0.append(hex: .max)
        }.text
        #expect(text == "0x00xabcdef0xffffffffffffffff")
    }

    @Test(arguments: [0, 1, 2, 5, 11, 12]) func whatDoesNotFitIsCutAndCounted(_ capacity: Int) {
        let (text, wanted) = written(capacity) { $0.append("hello world") }
        #expect(text == "hello world".prefix(max(0, capacity - 1)))
        #expect(wanted == 11)
    }

    @Test func aBufferThatIsNotThereOnlyCounts() {
        var buffer = TextBuffer(nil, capacity: 0)
        buffer.append("hello")
        #expect(buffer.wanted == 5)
    }

    @Test func errnosAreWordsAndUnknownOnesNumbers() {
        #expect(written(100) { $0.append(Errno(ENOENT)) }.text == "No such file or directory")
        #expect(written(100) { $0.append(Errno(4711)) }.text == "errno 4711")
    }

    @Test func aFailureLeavesItsSentence() {
        let error = fail(EINVAL, "length \(4097) of \("ram" as StaticString) at \(hex: 0x1000): \(Errno(EINVAL))")
        #expect(error == Errno(EINVAL))
        #expect(lastError() == "length 4097 of ram at 0x1000: Invalid argument")
        _ = fail(EIO, "shorter")
        #expect(lastError() == "shorter")
    }

    @Test func aLongSentenceIsCutAt511Bytes() {
        let long = String(repeating: "x", count: 2000)
        long.withCString { _ = fail(EIO, "name \($0)") }
        #expect(lastError().utf8.count == 511)
        #expect(lastError().hasPrefix("name xxx"))
    }
}
