/*
 * guest.h: what the guest and the launcher agree on. Included by guest.S and by C.
 *
 * The guest is 64-bit code at CPL 3 with IOPL 3 (native on every KVM), identity-mapped, without
 * interrupts. Each vCPU asks for a command, does it, prints a line and asks again:
 *
 *     IN   COMMAND  which command; returns when the launcher has one
 *     IN   ARGUMENT the command's next argument, low half then high half
 *     OUT  RESULT   the command's result, low half then high half
 *     OUT  BALLOON  a range the guest gives back: its first page, then how many; it reads zero
 *                   when the second OUT returns
 *     OUT  BROKEN   the guest found its own registers or memory not as it left them
 *     OUT  SERIAL   a byte of text
 *
 * The host threads of `-accel threads` speak the same protocol in C (workload.c).
 */
#ifndef GUEST_H
#define GUEST_H

#define PORT_SERIAL 0x3f8
#define PORT_COMMAND 0x600
#define PORT_ARGUMENT 0x604
#define PORT_RESULT 0x608
#define PORT_BALLOON 0x60c
#define PORT_BROKEN 0x610

#define COMMAND_TICK 0    /* counts one up and says so; no arguments, no result */
#define COMMAND_FILL 1    /* writes the seeded pattern; result: how many pages are not zero */
#define COMMAND_SUM 2     /* result: the sum of the pages' checksums */
#define COMMAND_ZERO 3    /* result: how many pages are not zero */
#define COMMAND_BALLOON 4 /* gives the pages back, then as ZERO */

/*
 * A walk over pages, eight arguments in this order: x runs through the numbers below a power of
 * two by x = (x * factor + step) & mask; each x below `limit` stands for the `run` pages from
 * x * run on; it ends after `count` of these. Ascending, descending and random orders are all of
 * this form and visit each page once.
 */
#define WALK_SEED 0
#define WALK_X 1
#define WALK_FACTOR 2
#define WALK_STEP 3
#define WALK_MASK 4
#define WALK_LIMIT 5
#define WALK_RUN 6
#define WALK_COUNT 7
#define WALK_ARGUMENTS 8

/* Guest-physical layout. Page n of the work area is at GUEST_WORK + n * 4096, past the hole below
 * 4 GiB where there is one. */
#define GUEST_CONTROL 0x1000 /* per vCPU 64 bytes, the first 8 its counter */
#define GUEST_GDT 0x2000
#define GUEST_PML4 0x3000
#define GUEST_PDPT 0x4000
#define GUEST_PD 0x5000      /* a page per GiB, up to the stacks */
#define GUEST_STACKS 0x80000 /* a page per vCPU */
#define GUEST_CODE 0x100000
#define GUEST_WORK 0x200000

#define GUEST_MAX_VCPUS 64

/* The pattern's constants. */
#define GOLDEN 0x9e3779b97f4a7c15
#define MIX_1 0xbf58476d1ce4e5b9
#define MIX_2 0x94d049bb133111eb
#define NEXT_FACTOR 0x5851f42d4c957f2d
#define NEXT_STEP 0x14057b7ef767814f
#define SUM_PRIME 0x100000001b3
#define SUM_ROTATE 23

#ifndef __ASSEMBLER__
extern const char guest_image_start[], guest_image_end[];
#endif
#endif
