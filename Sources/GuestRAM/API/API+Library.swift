import CLinux

@c @implementation public func guestram_version() -> UInt32 {
    UInt32(GUESTRAM_VERSION_MAJOR) << 16 | UInt32(GUESTRAM_VERSION_MINOR) << 8
        | UInt32(GUESTRAM_VERSION_PATCH)
}

@c @implementation public func guestram_error() -> UnsafePointer<CChar>? {
    UnsafePointer(cl_error_buffer())
}

@c @implementation public func guestram_probe(_ probe: UnsafeMutablePointer<guestram_probe_t>?)
    -> Int32
{
    answer { () throws(Errno) in
        try resultSize(probe, "probe")
        try give(Probe.run(), to: probe, "probe")
    }
}

@c @implementation public func guestram_probe_text(
    _ text: UnsafeMutablePointer<CChar>?, _ length: Int
) -> Int32 {
    giveText(text, length) { Probe.describe(Probe.run(), into: &$0) }
}
