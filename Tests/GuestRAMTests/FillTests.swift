import CLinux
import Testing

@testable import GuestRAM

private let page: UInt64 = 4096
private let count = 8
private let whole = UInt64(count) * page

/// Pages whose every byte is 1, 2, ...
private struct Contents: ~Copyable {
    let mapping: Mapping
    var address: UInt64 { UInt64(UInt(bitPattern: mapping.base)) }

    init() throws(Errno) {
        mapping = try Mapping(anonymous: Int(whole))
        for index in 0..<count { memset(mapping.base + index * 4096, Int32(index + 1), 4096) }
    }
}

/// An ioctl that an event or a lock interrupts after so many bytes.
nonisolated(unsafe) private var interruption: UInt64 = 0
nonisolated(unsafe) private var calls = 0

private func interrupted(_ length: UInt64, _ whole: (UInt64) -> Int32) -> Int32 {
    calls += 1
    let part = min(length, interruption)
    let error = whole(part)
    return error == 0 && part < length ? EAGAIN : error
}

private let interruptedCopy: FillEntry = { userfault, target, source, length, protect, done in
    interrupted(length) { standardCopy(userfault, target, source, $0, protect, done) }
}
private let interruptedZeropage: FillEntry = { userfault, target, source, length, protect, done in
    interrupted(length) { standardZeropage(userfault, target, source, $0, protect, done) }
}
private let interruptedContinue: FillEntry = { userfault, target, source, length, protect, done in
    interrupted(length) { standardContinue(userfault, target, source, $0, protect, done) }
}

private let interruptedShmem = MemoryType(
    number: MemoryType.shmem.number, name: "shmem, interrupted", modes: MemoryType.shmem.modes,
    pageSize: page, largestPageSize: page, hasFile: true, fileSystem: CL_TMPFS_MAGIC,
    needsVM: false, existsMayMeanExhausted: false, copy: interruptedCopy,
    zeropage: interruptedZeropage, continue: interruptedContinue, poison: nil, move: nil,
    writeprotect: nil, makeFile: noFile, mapFlags: { _ in 0 })

private func protect(_ region: TestRegion, from first: Int, to end: Int) throws {
    let start = region.pointer.pointee.host + first * 4096
    try #require(cl_mprotect(start, (end - first) * 4096, PROT_READ) == 0)
}

private func unregister(_ region: TestRegion, page index: Int) throws {
    var range = uffdio_range(start: region.address + UInt64(index) * page, len: page)
    try #require(cl_ioctl(region.pointer.pointee.userfault, CL_UFFDIO_UNREGISTER, &range) == 0)
}

/// mfill() on real userfaultfd memory.
@Suite(.needsUserfault) struct FillTests {
    @Test func aPartialResultIsGoneOnFromAtEveryPageBoundary() throws {
        let contents = try Contents()
        for pages in 1...count {
            interruption = UInt64(pages) * page
            for operation in [Operation.copy(from: contents.address), .zeropage, .continue] {
                let region = try TestRegion(registered: interruptedShmem, granules: count)
                if case .continue = operation {
                    // Cached, not mapped.
                    let file = region.pointer.pointee.file
                    try #require(cl_pwrite(file, contents.mapping.base, Int(whole), 0) == Int(whole))
                }
                calls = 0
                let outcome = mfill(region.pointer, operation, at: 0, length: whole)
                // Whoever reads a page that is not filled waits for ever.
                try #require(outcome.done == whole && outcome.error == 0)
                #expect(calls == (count + pages - 1) / pages)
                for index in 0..<count {
                    var expected = UInt8(index + 1)
                    if case .zeropage = operation { expected = 0 }
                    #expect(region.byte(ofPage: index) == expected)
                }
            }
        }
    }

    /// The kernel's own partial result: it stops in front of a page that is there.
    @Test(arguments: [MemoryType.anon, .shmem])
    func aPageThatIsThereStopsTheFillInFrontOfIt(_ type: MemoryType) throws {
        let contents = try Contents()
        for present in 0..<count {
            for operation in [Operation.copy(from: contents.address), .zeropage] {
                let region = try TestRegion(registered: type, granules: count)
                let before = UInt64(present) * page
                try #require(mfill(region.pointer, .zeropage, at: before, length: page).error == 0)
                let outcome = mfill(region.pointer, operation, at: 0, length: whole)
                #expect(outcome.done == before && outcome.error == EEXIST)
            }
        }
    }

    @Test func aPageThatIsNotCachedStopsContinueInFrontOfIt() throws {
        let contents = try Contents()
        for hole in 0..<count {
            let region = try TestRegion(registered: .shmem, granules: count)
            for index in 0..<count where index != hole {
                let bytes = contents.mapping.base + index * 4096
                try #require(
                    cl_pwrite(region.pointer.pointee.file, bytes, 4096, off_t(index * 4096)) == 4096)
            }
            let outcome = mfill(region.pointer, .continue, at: 0, length: whole)
            #expect(outcome.done == UInt64(hole) * page && outcome.error == EFAULT)
        }
    }

    /// mprotect() of a part splits the VMA, and no ioctl takes a range of two.
    @Test(arguments: [MemoryType.anon, .shmem])
    func aFillCrossesVMAsThatWereSplit(_ type: MemoryType) throws {
        let contents = try Contents()
        for first in 0..<count {
            for end in first + 1...count {
                let region = try TestRegion(registered: type, granules: count)
                try protect(region, from: first, to: end)
                let outcome = mfill(
                    region.pointer, .copy(from: contents.address), at: 0, length: whole)
                try #require(outcome.done == whole && outcome.error == 0)
                for index in 0..<count { #expect(region.byte(ofPage: index) == UInt8(index + 1)) }
            }
        }
    }

    @Test func writeprotectCrossesThemToo() throws {
        let region = try TestRegion(registered: .anon, granules: count)
        var arguments = uffdio_register()
        arguments.range = uffdio_range(start: region.address, len: whole)
        arguments.mode = CL_UFFDIO_REGISTER_MODE_MISSING | CL_UFFDIO_REGISTER_MODE_WP
        try #require(cl_ioctl(region.pointer.pointee.userfault, CL_UFFDIO_REGISTER, &arguments) == 0)
        region.pointer.pointee.operations = MemoryType.anon.operations
        try #require(mfill(region.pointer, .zeropage, at: 0, length: whole).error == 0)
        try protect(region, from: 3, to: 5)
        let outcome = mfill(region.pointer, .writeprotect(true), at: 0, length: whole)
        #expect(outcome.done == whole && outcome.error == 0)
    }

    /// No VMA of ours at all: what comes before is done, and nothing behind it is tried.
    @Test func aPageThatIsNotRegisteredStopsTheFillInFrontOfIt() throws {
        let contents = try Contents()
        for missing in 0..<count {
            let region = try TestRegion(registered: .anon, granules: count)
            try unregister(region, page: missing)
            let outcome = mfill(region.pointer, .copy(from: contents.address), at: 0, length: whole)
            #expect(outcome.done == UInt64(missing) * page && outcome.error == ENOENT)
        }
    }

    @Test func aSourceThatCannotBeReadIsEFAULT() throws {
        let region = try TestRegion(registered: .anon, granules: count)
        let outcome = mfill(region.pointer, .copy(from: 4096), at: 0, length: whole)
        #expect(outcome.done == 0 && outcome.error == EFAULT)
    }
}

/// The text of a source file.
private func source(_ path: String) throws -> String {
    let top = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
    let file = Descriptor(
        owning: try checked(cl_open(top.joined(separator: "/") + "/Sources/GuestRAM/" + path, O_RDONLY, 0)))
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let length = try checked(cl_read(file.raw, &bytes, bytes.count))
    return String(decoding: bytes[..<length], as: UTF8.self)
}

private func occurrences(of word: String, in text: String) -> Int {
    text.split { !$0.isLetter }.count { $0 == word }
}

@Suite struct FillSourceTests {
    @Test func mfillIsOneFunctionWithOneLoop() throws {
        let text = try source("Fill/Fill.swift")
        let from = try #require(text.firstRange(of: "\nfunc mfill("))
        let rest = text[from.lowerBound...]
        let end = try #require(rest.firstRange(of: "\n}\n"))
        let body = String(rest[..<end.lowerBound])
        // Each with what follows the keyword: `for` is a label too.
        let loops = [" while ", " for ", " repeat ", "forEach"].map { body.split(separator: $0).count - 1 }
        #expect(loops.reduce(0, +) == 1)
    }

    @Test(arguments: ["Fill/Fill.swift", "Fill/Operation.swift", "Fill/Deliver.swift"])
    func noTypesNameOccursWhereFillsAreMade(_ path: String) throws {
        let code = try source(path).split(separator: "\n").filter {
            !$0.drop { $0 == " " }.hasPrefix("//")
        }.joined(separator: "\n")
        for name in ["anon", "shmem", "hugetlb", "guestMemfd"] {
            #expect(occurrences(of: name, in: code) == 0)
        }
    }

    @Test func theFillIoctlsStandInOneFile() throws {
        for path in ["Fill/Fill.swift", "Fill/Deliver.swift", "Fault/Turn.swift", "Fault/Bring.swift"] {
            let text = try source(path)
            for name in ["COPY", "ZEROPAGE", "CONTINUE", "POISON", "MOVE"] {
                #expect(!text.contains("CL_UFFDIO_\(name)"), "\(path) names UFFDIO_\(name)")
            }
        }
    }
}
