/*
 * guest.S: the guest, position-independent, copied to GUEST_CODE. The protocol is in guest.h, what
 * each command computes is said in C in workload.c.
 *
 * Registers that live as long as the vCPU, and so show that a restore brought them back:
 *     r12   the counter, which is also in xmm0 and in the control page
 *     r13   the vCPU's number
 *     r14   the first page of the work area that is above the hole
 *     r15   how far the hole moves it
 */
#include "guest.h"

#define ARGUMENT(n) ((WALK_ARGUMENTS - 1 - (n)) * 8)(%rsp)

        .section .rodata
        .balign 16
        .global guest_image_start, guest_image_end
        .code64

guest_image_start:
next_command:
        mov     $PORT_COMMAND, %edx
        in      %dx, %eax
        test    %eax, %eax
        jz      tick
        mov     %eax, %r11d             /* the command */
        mov     $WALK_ARGUMENTS, %ecx
        mov     $PORT_ARGUMENT, %edx
1:      in      %dx, %eax
        mov     %rax, %rdi
        in      %dx, %eax
        shl     $32, %rax
        or      %rax, %rdi
        push    %rdi
        dec     %ecx
        jnz     1b

        cmp     $COMMAND_BALLOON, %r11d
        jne     walk
        mov     $PORT_BALLOON, %edx
        mov     ARGUMENT(WALK_X), %rax
        out     %eax, %dx
        mov     ARGUMENT(WALK_COUNT), %rax
        out     %eax, %dx

walk:
        xor     %r10d, %r10d            /* the result */
        mov     ARGUMENT(WALK_X), %rbx
2:      cmp     ARGUMENT(WALK_LIMIT), %rbx
        jae     5f
        mov     ARGUMENT(WALK_RUN), %r9
        mov     %rbx, %r8
        imul    %r9, %r8                /* the page */
3:      mov     %r8, %rdi
        shl     $12, %rdi
        add     $GUEST_WORK, %rdi       /* its address */
        cmp     %r14, %r8
        jb      4f
        add     %r15, %rdi
4:      lea     after_page(%rip), %rax
        push    %rax
        cmp     $COMMAND_SUM, %r11d
        je      sum_page
        jb      fill_page
        jmp     zero_page
after_page:
        inc     %r8
        dec     %r9
        jnz     3b
        decq    ARGUMENT(WALK_COUNT)
        jz      6f
5:      imul    ARGUMENT(WALK_FACTOR), %rbx
        add     ARGUMENT(WALK_STEP), %rbx
        and     ARGUMENT(WALK_MASK), %rbx
        jmp     2b

6:      add     $(WALK_ARGUMENTS * 8), %rsp
        call    say_vcpu
        lea     fill_text(%rip), %rsi
        cmp     $COMMAND_SUM, %r11d
        jb      7f
        lea     sum_text(%rip), %rsi
        je      7f
        lea     zero_text(%rip), %rsi
7:      call    say
        call    say_result
        mov     $PORT_RESULT, %edx
        mov     %r10, %rax
        out     %eax, %dx
        shr     $32, %rax
        out     %eax, %dx
        jmp     next_command

tick:
        mov     %r13, %rdi
        shl     $6, %rdi
        cmp     GUEST_CONTROL(%rdi), %r12
        jne     broken
        movq    %xmm0, %rax
        cmp     %rax, %r12
        jne     broken
        inc     %r12
        mov     %r12, GUEST_CONTROL(%rdi)
        movq    %r12, %xmm0
        call    say_vcpu
        lea     tick_text(%rip), %rsi
        call    say
        mov     %r12, %rax
        call    say_decimal
        call    say_newline
        jmp     next_command

broken:
        mov     $PORT_BROKEN, %edx
        mov     %r12d, %eax
        out     %eax, %dx
        jmp     broken

/* Pages: r8 number, rdi address; may change rax, rcx, rdx, rsi, rdi. */

fill_page:
        mov     %r8, %rax               /* of 64 pages in a row: none, all or about half */
        shr     $6, %rax
        call    hash
        mov     %rax, %rcx
        lea     1(%r8), %rax
        neg     %rax
        call    hash
        and     $3, %ecx
        jz      9f
        dec     %ecx
        jz      7f
        test    %rax, %rax
        js      9f
7:      inc     %r10
        mov     $512, %ecx
        movabs  $NEXT_FACTOR, %rdx
        movabs  $NEXT_STEP, %rsi
8:      mov     %rax, (%rdi)
        imul    %rdx, %rax
        add     %rsi, %rax
        add     $8, %rdi
        dec     %ecx
        jnz     8b
        ret
9:      xor     %eax, %eax
        mov     $512, %ecx
        rep stosq
        ret

hash:   /* rax = hash(seed, rax); the seed is below the two return addresses */
        movabs  $GOLDEN, %rdx
        imul    %rdx, %rax
        add     16+ARGUMENT(WALK_SEED), %rax
        mov     %rax, %rdx
        shr     $30, %rdx
        xor     %rdx, %rax
        movabs  $MIX_1, %rdx
        imul    %rdx, %rax
        mov     %rax, %rdx
        shr     $27, %rdx
        xor     %rdx, %rax
        movabs  $MIX_2, %rdx
        imul    %rdx, %rax
        mov     %rax, %rdx
        shr     $31, %rdx
        xor     %rdx, %rax
        ret

sum_page:
        lea     1(%r8), %rax
        movabs  $GOLDEN, %rdx
        imul    %rdx, %rax
        movabs  $SUM_PRIME, %rdx
        mov     $512, %ecx
1:      xor     (%rdi), %rax
        imul    %rdx, %rax
        rol     $SUM_ROTATE, %rax
        add     $8, %rdi
        dec     %ecx
        jnz     1b
        add     %rax, %r10
        ret

zero_page:
        xor     %eax, %eax
        mov     $512, %ecx
1:      or      (%rdi), %rax
        add     $8, %rdi
        dec     %ecx
        jnz     1b
        test    %rax, %rax
        jz      2f
        inc     %r10
2:      ret

/* Text. All leave PORT_SERIAL in dx. */

say_vcpu:
        lea     vcpu_text(%rip), %rsi
        call    say
        mov     %r13, %rax
say_decimal: /* rax */
        mov     $PORT_SERIAL, %edx
        mov     %rax, %rdi
        xor     %ecx, %ecx
1:      mov     %rdi, %rax
        xor     %edx, %edx
        mov     $10, %esi
        div     %rsi
        mov     %rax, %rdi
        add     $'0', %edx
        push    %rdx
        inc     %ecx
        test    %rdi, %rdi
        jnz     1b
        mov     $PORT_SERIAL, %edx
2:      pop     %rax
        out     %al, %dx
        dec     %ecx
        jnz     2b
        ret

say:    /* rsi */
        mov     $PORT_SERIAL, %edx
1:      mov     (%rsi), %al
        test    %al, %al
        jz      2f
        out     %al, %dx
        inc     %rsi
        jmp     1b
2:      ret

say_result: /* r10, and the end of the line: a checksum in hex, a number of pages in decimal */
        mov     %r10, %rax
        cmp     $COMMAND_SUM, %r11d
        je      say_hex
        call    say_decimal
say_newline:
        mov     $'\n', %al
        out     %al, %dx
        ret

say_hex:
        mov     $16, %ecx
        mov     %r10, %rdi
1:      rol     $4, %rdi
        mov     %edi, %eax
        and     $15, %eax
        add     $'0', %eax
        cmp     $'9', %eax
        jbe     2f
        add     $('a' - '0' - 10), %eax
2:      out     %al, %dx
        dec     %ecx
        jnz     1b
        jmp     say_newline

vcpu_text: .asciz "vcpu "
tick_text: .asciz " tick "
fill_text: .asciz " pages filled with data: "
sum_text:  .asciz " checksum 0x"
zero_text: .asciz " pages that are not zero: "
guest_image_end:

        .section .note.GNU-stack, "", @progbits
