// libFuzzer on the manifest parser: it never crashes, and what it takes is exactly what write(to:)
// makes, so nothing in a manifest is skipped or half understood.
//
// Compiled in one module with the library (scripts/fuzz): the parser is not public. The seeds in
// corpus/manifest have no checksum line: the right one is added here, or no input would ever get
// past it.
import CLinux

@_cdecl("fuzz_manifest")
public func fuzzManifest(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
    check(UnsafeRawBufferPointer(start: data, count: size)) // as it is: version and checksum
    var text = ContiguousArray(UnsafeBufferPointer(start: data, count: size))
    let digits = String(text.withUnsafeBytes { crc64($0) }, radix: 16)
    text += "checksum crc64=".utf8
    text += repeatElement(UInt8(ascii: "0"), count: 16 - digits.utf8.count)
    text += digits.utf8
    text.append(UInt8(ascii: "\n"))
    text.withUnsafeBytes { check($0) }
    return 0
}

private func check(_ text: UnsafeRawBufferPointer) {
    do throws(Errno) {
        let manifest = try Manifest.parse(text)
        let buffer = try Mapping(anonymous: Manifest.maximumBytes + 1)
        guard manifest.write(to: buffer).elementsEqual(text) else {
            fatalError("what was parsed is written in another way")
        }
    } catch {
        guard error.code == EINVAL || error.code == EPROTONOSUPPORT else {
            fatalError("errno \(error.code)")
        }
        guard strlen(cl_error_buffer()) > 0 else { fatalError("no message") }
    }
}
