import CLinux
import Testing

@testable import GuestRAM

private func pageError(_ offset: UInt64, region: UInt32 = 1, error: Int32 = EIO) -> EventQueue.Entry {
    EventQueue.Entry(
        type: UInt32(GUESTRAM_EVENT_PAGE_ERROR), region: region, offset: offset, length: 4096,
        error: error)
}

private func stalled(_ offset: UInt64) -> EventQueue.Entry {
    EventQueue.Entry(type: UInt32(GUESTRAM_EVENT_STALLED), region: 1, offset: offset, length: 4096)
}

/// In a class, because #expect takes no noncopyable values.
private final class TestQueue {
    private var queue: EventQueue
    init() throws { queue = try EventQueue() }

    func push(_ entry: EventQueue.Entry) { queue.push(entry, signal: queue.descriptor.raw) }
    func pop() -> EventQueue.Entry? { queue.pop() }
    var lost: UInt64 { queue.lostInAll.now }

    var isReadable: Bool {
        var watched = pollfd(fd: queue.descriptor.raw, events: Int16(POLLIN), revents: 0)
        return cl_poll(&watched, 1, 0) == 1
    }
}

@Suite struct EventQueueTests {
    @Test func eventsComeInTheirOrder() throws {
        let queue = try TestQueue()
        for offset in 0..<10 as Range<UInt64> { queue.push(stalled(offset)) }
        for offset in 0..<10 as Range<UInt64> {
            let entry = try #require(queue.pop())
            #expect(entry.offset == offset && entry.dropped == 0)
        }
        #expect(queue.pop() == nil)
    }

    @Test func theDescriptorIsReadableWhileThereAreEvents() throws {
        let queue = try TestQueue()
        #expect(!queue.isReadable)
        queue.push(stalled(0))
        queue.push(stalled(1))
        #expect(queue.isReadable)
        #expect(queue.pop() != nil)
        #expect(queue.isReadable)
        #expect(queue.pop() != nil)
        #expect(!queue.isReadable)
        queue.push(stalled(2))
        #expect(queue.isReadable, "again, after it was empty")
    }

    @Test func pageErrorsOfNeighboursAreOne() throws {
        let queue = try TestQueue()
        for offset in [8192, 12288, 4096] as [UInt64] { queue.push(pageError(offset)) }
        let entry = try #require(queue.pop())
        #expect(entry.offset == 4096 && entry.length == 3 * 4096)
        #expect(queue.pop() == nil)
    }

    @Test func whatIsNotTheSameIsNotJoined() throws {
        let queue = try TestQueue()
        queue.push(pageError(0))
        queue.push(pageError(8192))  // a gap
        queue.push(pageError(12288, region: 2))
        queue.push(pageError(16384, region: 2, error: ENOMEM))
        queue.push(stalled(20480))
        queue.push(stalled(24576))
        var count = 0
        while let entry = queue.pop() {
            #expect(entry.length == 4096)
            count += 1
        }
        #expect(count == 6)
    }

    @Test func aFullQueueDropsAndTheNextEventSaysHowMany() throws {
        let queue = try TestQueue()
        for offset in 0..<UInt64(EventQueue.capacity + 7) { queue.push(stalled(offset)) }
        #expect(queue.lost == 7)
        var first = try #require(queue.pop())
        #expect(first.offset == 0 && first.dropped == 0, "the oldest are kept")
        queue.push(stalled(1_000_000))
        var last = first
        var count = 0
        while let entry = queue.pop() {
            (first, last) = (last, entry)
            count += 1
        }
        #expect(count == EventQueue.capacity)
        #expect(first.dropped == 0 && last.offset == 1_000_000 && last.dropped == 7)
        queue.push(stalled(0))
        #expect(queue.pop()?.dropped == 0, "told once")
    }

    @Test func aPageErrorIsJoinedAlsoWhereTheQueueIsFull() throws {
        let queue = try TestQueue()
        for offset in 0..<UInt64(EventQueue.capacity - 1) { queue.push(stalled(offset)) }
        queue.push(pageError(0))
        queue.push(pageError(4096))
        #expect(queue.lost == 0)
    }
}
