import CLinux
import Synchronization

/// The userfaultfds that a pool's leader waits on, each with its memory's place in the pool's table, and the
/// bell by which it is called.
///
/// A single one is polled. Once there are more, and until none is left, all are in an epoll, which
/// costs each fault a call of its own in the kernel and each sleep several.
///
/// Only the leader waits, and anyone rings. All else is under the pool's registry lock.
struct WaitSet: ~Copyable {
    /// The bell's place.
    private static let bellPlace = Pool.capacity

    /// All three as the workers know them.
    private let epoll: Int32
    private let bell: Int32
    private var single: Int32 = -1
    private let bellEvent: Descriptor
    private var count = 0

    /// The place of the single one, -1 when there is none or they are more. Not a plain Int: a struct of
    /// nothing else is loaded whole for a call, and the leader would read what others change meanwhile.
    let singlePlace = Atomic<Int>(-1)

    init(_ block: inout DescriptorBlock) throws(Errno) {
        let bellEvent = Descriptor(
            owning: try ofPool(cl_eventfd(0, CL_EFD_CLOEXEC | CL_EFD_NONBLOCK)))
        let instance = Descriptor(owning: try ofPool(cl_epoll_create()))
        let epoll = try block.place(instance.raw)
        let bell = try block.place(bellEvent.raw)
        _ = try checked(cl_epoll_ctl(epoll, EPOLL_CTL_ADD, bell, CL_EPOLLIN, UInt64(Self.bellPlace)))
        self.epoll = epoll
        self.bell = bell
        self.bellEvent = bellEvent
    }

    mutating func add(_ userfault: Int32, _ place: Int) throws(Errno) {
        defer { ring() }
        if count == 0 {
            single = userfault
            singlePlace.store(place, ordering: .relaxed)
        } else {
            let first = singlePlace.load(ordering: .relaxed)
            if first >= 0 { try addToEpoll(single, first) }
            singlePlace.store(-1, ordering: .relaxed)
            try addToEpoll(userfault, place)
        }
        count += 1
    }

    private func addToEpoll(_ userfault: Int32, _ place: Int) throws(Errno) {
        let result = cl_epoll_ctl(epoll, EPOLL_CTL_ADD, userfault, CL_EPOLLIN, UInt64(place))
        guard result == 0 else {
            throw fail(-result, "the userfaultfd cannot be waited for: \(Errno(-result))")
        }
    }

    /// The leader may still wait on it: until it has drop()ped the memory.
    mutating func remove(_ userfault: Int32, _ place: Int) {
        if singlePlace.load(ordering: .relaxed) == place {
            singlePlace.store(-1, ordering: .relaxed)
            ring()
        } else if cl_epoll_ctl(epoll, EPOLL_CTL_DEL, userfault, 0, 0) != 0 {
            return  // add() had failed
        }
        count -= 1
    }

    /// Has the leader stop waiting and look anew what to do.
    func ring() {
        var one: UInt64 = 1
        _ = cl_write(bellEvent.raw, &one, 8)
    }

    /// Whether the single one can be read. False when the time (nanoseconds; negative: no limit) is up, and
    /// when the bell rang.
    func waitForSingle(_ userfault: Int32, _ timeout: Int64) -> Bool {
        let ready = cl_poll_two(userfault, bell, timeout)
        guard ready > 0 else { return false }
        if ready & 2 != 0 { answerBell() }
        return ready & 1 != 0
    }

    /// The place of one that can be read, or of none.
    func waitForAny(_ timeout: Int64) -> Int {
        var event = epoll_event()
        guard cl_epoll_wait(epoll, &event, 1, timeout) > 0 else { return -1 }
        let place = Int(withUnsafePointer(to: event) { cl_epoll_event_data($0) })
        guard place == Self.bellPlace else { return place }
        answerBell()
        return -1
    }

    private func answerBell() {
        var rung: UInt64 = 0
        _ = cl_read(bell, &rung, 8)
    }
}
