import CLinux

extension Manifest {
    /// The manifest's text, in `buffer`, which must have maximumBytes and one more for a NUL. There
    /// is one text for one manifest, and the parser takes no other.
    func write(to buffer: borrowing Mapping) -> UnsafeRawBufferPointer {
        var text = TextBuffer(
            buffer.base.assumingMemoryBound(to: CChar.self), capacity: buffer.length)
        text.append("guestram-snapshot ")
        text.append(Self.version)
        text.append("\nmemory bytes=")
        text.append(memoryBytes)
        text.append("\n")
        if stateBytes > 0 {
            text.append("state bytes=")
            text.append(stateBytes)
            text.append(" crc64=")
            text.append(checksum: stateChecksum)
            text.append("\n")
        }
        if let checksumsChecksum {
            text.append("checksums bytes=")
            text.append(checksumsBytes)
            text.append(" crc64=")
            text.append(checksum: checksumsChecksum)
            text.append("\n")
        }
        for region in regions.elements {
            text.append("region name=")
            region.name.append(to: &text)
            text.append(" type=")
            text.append(snapshotTypeName(region.type) ?? "")
            text.append(region.isPrivate ? " sharing=private" : " sharing=shared")
            text.append(" length=")
            text.append(region.length)
            text.append(" page-size=")
            text.append(region.pageSize)
            text.append(" file-offset=")
            text.append(region.fileOffset)
            text.append(" data=")
            text.append(region.dataBytes)
            text.append("\n")
        }
        for slot in slots.elements {
            text.append("slot region=")
            regions[slot.regionIndex].name.append(to: &text)
            text.append(" guest-physical=")
            text.append(hex: slot.guestPhysical)
            text.append(" offset=")
            text.append(slot.offset)
            text.append(" length=")
            text.append(slot.length)
            text.append("\n")
        }
        let checksum = crc64(UnsafeRawBufferPointer(start: buffer.base, count: text.wanted))
        text.append("checksum crc64=")
        text.append(checksum: checksum)
        text.append("\n")
        return UnsafeRawBufferPointer(start: buffer.base, count: text.wanted)
    }
}

extension TextBuffer {
    /// Always 16 digits, so that the last line has one length.
    fileprivate mutating func append(checksum: UInt64) {
        for shift in stride(from: UInt64(60), through: 0, by: -4) {
            let digit = UInt8(truncatingIfNeeded: checksum >> shift & 15)
            append(byte: digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
    }
}
