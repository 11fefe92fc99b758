import CLinux

@c @implementation public func guestram_event_fd(_ memory: OpaquePointer?) -> Int32 {
    guard let memory else {
        return answer { () throws(Errno) in throw fail(EINVAL, "memory is NULL") }
    }
    return MemoryPointer(memory).pointee.queue.descriptor.raw
}

@c @implementation public func guestram_next_event(
    _ memory: OpaquePointer?, _ event: UnsafeMutablePointer<guestram_event_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try resultSize(event, "event")
        guard let entry = memory.pointee.queue.pop() else {
            throw fail(EAGAIN, "no event is queued")
        }
        var result = guestram_event_t()
        result.type = entry.type
        result.region = entry.region
        result.offset = entry.offset
        result.length = entry.length
        result.error = entry.error
        result.dropped = entry.dropped
        try give(result, to: event, "event")
    }
}

@c @implementation public func guestram_stats(
    _ memory: OpaquePointer?, _ stats: UnsafeMutablePointer<guestram_stats_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try resultSize(stats, "stats")
        let result = memory.pointee.configuration.locked { Metrics.stats(memory) }
        try give(result, to: stats, "stats")
    }
}

@c @implementation public func guestram_latency(
    _ memory: OpaquePointer?, _ which: UInt32,
    _ latency: UnsafeMutablePointer<guestram_latency_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try resultSize(latency, "latency")
        guard which < UInt32(Latencies.count) else {
            throw fail(EINVAL, "which \(which) is none of GUESTRAM_LATENCY_*")
        }
        var result = guestram_latency_t()
        memory.pointee.statistics.latencies.summarize(Int(which), into: &result)
        try give(result, to: latency, "latency")
    }
}
