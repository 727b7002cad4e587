/* 32-bit programs: an ELF32 file made here, from code assembled here, run by the kernel's
 * compatibility mode. Its exit status is the number of its first step that went wrong, 0 if none
 * did.
 */
#include "check.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LOAD_AT 0x08048000u

/* EBX counts the steps; a step that is wrong jumps to bad_32. ESI is the system call entry of the
 * vDSO, or 0. */
__asm__(
    ".section .rodata\n"
    ".code32\n"
    "start_32:\n"
    /* 1: system call by int $0x80: getpid twice */
    "mov $1, %ebx; mov $20, %eax; int $0x80; mov %eax, %edi; cmp $1, %eax; jle bad_32\n"
    "mov $20, %eax; int $0x80; cmp %eax, %edi; jne bad_32\n"
    /* 2: the initial stack holds argc 1; find AT_SYSINFO (32) behind arguments and environment */
    "mov $2, %ebx; mov %esp, %ebp; cmpl $1, (%ebp); jne bad_32\n"
    "lea 4(%ebp), %ecx; xor %esi, %esi\n"
    "1: mov (%ecx), %eax; add $4, %ecx; test %eax, %eax; jnz 1b\n"
    "2: mov (%ecx), %eax; add $4, %ecx; test %eax, %eax; jnz 2b\n"
    "3: mov (%ecx), %eax; mov 4(%ecx), %edx; add $8, %ecx; cmp $32, %eax; jne 4f; mov %edx, %esi\n"
    "4: test %eax, %eax; jnz 3b\n"
    /* 3: the same call through the vDSO (sysenter, or syscall); EDX, ECX, EBP live */
    "mov $3, %ebx; test %esi, %esi; jz 5f\n"
    "mov $0x1234, %ecx; mov $0x5678, %edx; mov $20, %eax; call *%esi\n"
    "cmp %eax, %edi; jne bad_32; cmp $0x1234, %ecx; jne bad_32; cmp $0x5678, %edx; jne bad_32\n"
    "cmp %esp, %ebp; jne bad_32\n"
    "5:\n"
    /* 4: with six arguments: mmap2 of one page, and a write to it */
    "mov $4, %ebx; push %esi; push %edi; push %ebp; push %ebx\n"
    "xor %ebx, %ebx; mov $4096, %ecx; mov $3, %edx; mov $0x22, %esi; mov $-1, %edi; xor %ebp, "
    "%ebp\n"
    "mov $192, %eax; int $0x80\n"
    "pop %ebx; pop %ebp; pop %edi; pop %esi; cmp $0xfffff000, %eax; ja bad_32\n"
    "movl $0x600df00d, 4(%eax); cmpl $0x600df00d, 4(%eax); jne bad_32\n"
    /* 5: a segment of thread-local storage at that page */
    "mov $5, %ebx; push %ebx; sub $16, %esp; movl $-1, (%esp); mov %eax, 4(%esp); movl $0xfffff, "
    "8(%esp)\n"
    "movl $0x51, 12(%esp); mov %esp, %ebx; mov $243, %eax; int $0x80; mov (%esp), %ecx; add $16, "
    "%esp\n"
    "pop %ebx; test %eax, %eax; jnz bad_32\n"
    "lea 3(,%ecx,8), %eax; mov %eax, %gs; cmpl $0x600df00d, %gs:4; jne bad_32\n"
    "movl $7, %gs:8; mov %gs:8, %eax; cmp $7, %eax; jne bad_32\n"
    /* 6: instructions that 64-bit code does not have */
    "mov $6, %ebx; mov $0x0607, %ax; aad; cmp $67, %al; jne bad_32; aam; cmp $0x0607, %ax; jne "
    "bad_32\n"
    "mov $0x19, %al; add $0x28, %al; daa; cmp $0x47, %al; jne bad_32\n"
    "push %cs; pop %eax; cmp $0x23, %eax; jne bad_32\n"
    "pusha; mov $0, %edi; popa; inc %eax; dec %eax; push %ds; pop %es\n"
    /* 7: addresses and registers wrap at 32 bits */
    "mov $7, %ebx; mov $-4, %eax; lea 8(%eax), %ecx; cmp $4, %ecx; jne bad_32\n"
    "mov %esp, %eax; sub $0x10, %eax; mov $0x77, %ecx; mov %ecx, -0x10(%esp); cmpl $0x77, (%eax); "
    "jne bad_32\n"
    "mov $-0x10, %ecx; cmpl $0x77, (%esp,%ecx); jne bad_32\n"
    /* 8: a far jump to 64-bit code and back */
    "mov $8, %ebx; call 6f; 6: pop %eax; lea 8f-6b(%eax), %ecx; lea 9f-6b(%eax), %edx\n"
    "push $0x33; push %ecx; lret\n"
    ".code64\n"
    "8: mov $0x123456789, %rax; shr $32, %rax; push $0x23; push %rdx; lretq\n"
    ".code32\n"
    "9: cmp $1, %eax; jne bad_32\n"
    /* 9: a signal, its handler on this stack, and the return from it: kill(getpid(), SIGUSR1) */
    "mov $9, %ebx; call 10f; 10: pop %eax; lea 12f-10b(%eax), %ecx; push %ebx\n"
    "xor %edx, %edx; push %edx; push %edx; push %edx; push %edx; push %ecx\n" /* handler, flags,
                                                                                 restorer, mask */
    "mov $10, %ebx; mov %esp, %ecx; xor %edx, %edx; push %esi; mov $8, %esi; mov $174, %eax; int "
    "$0x80\n"
    "pop %esi; add $20, %esp; pop %ebx; test %eax, %eax; jnz bad_32\n"
    "movl $0, %gs:16; push %ebx; mov %edi, %ebx; mov $10, %ecx; mov $37, %eax; int $0x80; pop "
    "%ebx\n"
    "test %eax, %eax; jnz bad_32; cmpl $10, %gs:16; jne bad_32\n"
    /* 10: SSE and x87 */
    "mov $10, %ebx; fld1; fldpi; fmulp; push %eax; fistpl (%esp); pop %eax; cmp $3, %eax; jne "
    "bad_32\n"
    "mov $21, %eax; movd %eax, %xmm7; paddd %xmm7, %xmm7; movd %xmm7, %ecx; cmp $42, %ecx; jne "
    "bad_32\n"
    "xor %ebx, %ebx\n"
    "bad_32: mov $1, %eax; int $0x80; ud2\n"
    "12: mov 4(%esp), %eax; mov %eax, %gs:16; ret\n" /* the handler: notes its signal */
    "end_32:\n"
    ".code64\n"
    ".text\n");
extern const char start_32[], end_32[];

struct program {
    Elf32_Ehdr header;
    Elf32_Phdr segments[2];
    char code[2048];
};

static void build(struct program *p)
{
    size_t bytes = (size_t)(end_32 - start_32);

    *p = (struct program){
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB,
                               EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_386,
                   .e_version = EV_CURRENT,
                   .e_entry = LOAD_AT + offsetof(struct program, code),
                   .e_phoff = offsetof(struct program, segments),
                   .e_ehsize = sizeof(Elf32_Ehdr),
                   .e_phentsize = sizeof(Elf32_Phdr),
                   .e_phnum = 2},
        .segments = {{.p_type = PT_LOAD,
                      .p_vaddr = LOAD_AT,
                      .p_filesz = sizeof(*p),
                      .p_memsz = sizeof(*p),
                      .p_flags = PF_R | PF_X,
                      .p_align = PAGE},
                     {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W}},
    };
    if (bytes <= sizeof(p->code))
        memcpy(p->code, start_32, bytes);
}

static int make_file(void)
{
    struct program program;
    int fd = memfd_create("compat", MFD_CLOEXEC);

    build(&program);
    if (fd >= 0 && write(fd, &program, sizeof(program)) != sizeof(program)) {
        close(fd);
        return -1;
    }
    return fd;
}

enum { NO_COMPAT = 100 };

static void execute(void *arg)
{
    char *argv[] = {"compat", NULL}, *envp[] = {NULL};

    syscall(SYS_execveat, *(int *)arg, "", argv, envp, 0x1000 /* AT_EMPTY_PATH */);
    _exit(NO_COMPAT);
}

void check_compat(void)
{
    unsigned bad = 0;
    int fd = make_file(), status;

    if (!ok(fd >= 0 && end_32 - start_32 <= (long)sizeof(((struct program *)0)->code),
            "the program is made"))
        return;
    status = in_child(execute, &fd);
    if (status == NO_COMPAT) {
        skip("the kernel runs no 32-bit programs");
        return;
    }
    equal((uint64_t)(int64_t)status, 0, "a 32-bit program; the first wrong step");
    for (unsigned i = 0; i < 20; i++)
        bad += in_child(execute, &fd) != 0;
    equal(bad, 0, "and twenty times more");
    close(fd);
}
