/* Calls, indirect jumps, string instructions, and code that is made at run time. */
#include "guestbench.h"

#include <sys/mman.h>

__asm__(".text\n"
        ".p2align 4\n"
        ".type gb_fib,@function\n"
        "gb_fib:\n"
        "	cmpl $2, %edi\n"
        "	jae 1f\n"
        "	movl %edi, %eax\n"
        "	ret\n"
        "1:	pushq %rbx\n"
        "	movl %edi, %ebx\n"
        "	leal -1(%rdi), %edi\n"
        "	call gb_fib\n"
        "	leal -2(%rbx), %edi\n"
        "	movl %eax, %ebx\n"
        "	call gb_fib\n"
        "	addl %ebx, %eax\n"
        "	popq %rbx\n"
        "	ret\n"
        ".size gb_fib, .-gb_fib\n");
unsigned gb_fib(unsigned);

int w_call_fib(struct res *r, unsigned long n)
{
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        r->sum += gb_fib(27);
    r->sec = now() - t;
    r->ops = n * 832040;
    return 0;
}

enum {
    I_ADD,
    I_SUB,
    I_MUL,
    I_XOR,
    I_SHL,
    I_SHR,
    I_LD,
    I_ST,
    I_INC,
    I_DEC,
    I_NOT,
    I_SWAP,
    I_PUSH,
    I_POP,
    I_JNZ,
    I_END
};

static NOINLINE uint64_t interp(const unsigned char *code, uint64_t a, unsigned long n)
{
    uint64_t b = 7, mem[16] = {0}, stk[16];
    unsigned sp = 0;
    const unsigned char *pc = code;
    for (;;)
        switch (*pc++ & 15) {
        case I_ADD:
            a += b;
            break;
        case I_SUB:
            a -= b;
            break;
        case I_MUL:
            a *= b | 1;
            break;
        case I_XOR:
            a ^= b;
            break;
        case I_SHL:
            a <<= 1;
            break;
        case I_SHR:
            a >>= 1;
            break;
        case I_LD:
            b = mem[a & 15];
            break;
        case I_ST:
            mem[b & 15] = a;
            break;
        case I_INC:
            a++;
            break;
        case I_DEC:
            b--;
            break;
        case I_NOT:
            a = ~a;
            break;
        case I_SWAP: {
            uint64_t x = a;
            a = b;
            b = x;
            break;
        }
        case I_PUSH:
            stk[sp++ & 15] = a;
            break;
        case I_POP:
            b += sp ? stk[--sp & 15] : 1;
            break;
        case I_JNZ:
            if (a & 1)
                pc++;
            break;
        case I_END:
            if (!n--)
                return a ^ b;
            pc = code;
            break;
        }
}

int w_ind_interp(struct res *r, unsigned long n)
{
    unsigned char code[1002];
    rng_seed(99);
    for (int i = 0; i < 1000; i++)
        code[i] = rng() % 15;
    code[1000] = code[1001] = I_END;
    double t = now();
    r->sum = interp(code, 1, n);
    r->sec = now() - t;
    r->ops = n * 1000;
    return 0;
}

#define F(k)                                                                                       \
    static NOINLINE uint64_t f##k(uint64_t x)                                                      \
    {                                                                                              \
        return x * (2 * k + 1) + k;                                                                \
    }
F(0)
F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14)
    F(15) static uint64_t (*const volatile ftab[16])(uint64_t) = {
        f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15};

int w_ind_call(struct res *r, unsigned long n)
{
    uint64_t x = 1;
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        x = ftab[(x >> 7 ^ i) & 15](x);
    r->sec = now() - t;
    r->ops = n;
    r->sum = x;
    return 0;
}

static inline void movsb(void *d, const void *s, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
}

int w_str_rep(struct res *r, unsigned long n)
{
    static unsigned char a[65536], b[65536];
    for (unsigned i = 0; i < sizeof a; i++)
        a[i] = i * 11;
    double t = now();
    for (unsigned long k = 0; k < n; k++) {
        for (int i = 0; i < 512; i++)
            movsb(b + i * 100, a + i * 37, 24 + (i & 63));
        movsb(b + 3, a + 1, 4096);
        movsb(b, a + 5, 60000);
        void *d = a + 1000;
        size_t c = 512;
        __asm__ volatile("rep stosq"
                         : "+D"(d), "+c"(c)
                         : "a"(k * 0x0101010101010101ULL)
                         : "memory");
    }
    r->sec = now() - t;
    r->ops = n;
    for (unsigned i = 0; i < sizeof b; i++)
        r->sum = mix(r->sum, b[i]);
    return 0;
}

int w_str_libc(struct res *r, unsigned long n)
{
    static char a[8192], b[8192];
    uint64_t sum = 0;
    memset(a, 'a', sizeof a - 1);
    memset(b, 'a', sizeof b - 1);
    double t = now();
    for (unsigned long k = 0; k < n; k++) {
        unsigned o = k & 63;
        __asm__ volatile("" ::: "memory");
        sum += strlen(a + o) + strlen(a + 8000 + o);
        sum += strcmp(a + o, b + o) == 0;
        sum += (char *)memchr(b + o, 0, sizeof b - o) - b;
        for (int i = 0; i < 32; i++)
            sum += strlen(a + 8192 - 8 - (i + o) % 40);
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = sum;
    return 0;
}

typedef uint64_t (*fn0)(void);
typedef uint64_t (*fn1)(uint64_t);

static unsigned char *rwx(size_t len, int prot)
{
    void *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* mov eax, imm32; ret */
static void emit_const(unsigned char *p, uint32_t v)
{
    p[0] = 0xb8;
    memcpy(p + 1, &v, 4);
    p[5] = 0xc3;
}

/* `k` steps of rax = rax * 5 + imm, seeded by v; at most 14 * k + 4 bytes. */
static size_t emit_body(unsigned char *p, uint32_t v, int k)
{
    unsigned char *s = p;
    *p++ = 0x48;
    *p++ = 0x89;
    *p++ = 0xf8; /* mov rax, rdi */
    for (int i = 0; i < k; i++) {
        *p++ = 0x48;
        *p++ = 0x8d;
        *p++ = 0x04;
        *p++ = 0x80; /* lea rax, [rax+rax*4] */
        *p++ = 0x48;
        *p++ = 0x05; /* add rax, imm32 */
        uint32_t w = (v + i * 77) & 0x7fffffff;
        memcpy(p, &w, 4);
        p += 4;
        *p++ = 0x48;
        *p++ = 0x31;
        *p++ = 0xf8; /* xor rax, rdi */
    }
    *p++ = 0xc3;
    return p - s;
}

int w_jit_rewrite(struct res *r, unsigned long n)
{
    unsigned char *p = rwx(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (!p)
        return skip(r, "no RWX memory");
    uint64_t sum = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        emit_const(p, i);
        __asm__ volatile("" ::: "memory");
        sum = sum * 3 + ((fn0)p)();
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = sum;
    munmap(p, 4096);
    return 0;
}

int w_jit_fresh(struct res *r, unsigned long n)
{
    size_t len = 256 * 1024;
    unsigned char *p = rwx(len, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (!p)
        return skip(r, "no RWX memory");
    uint64_t sum = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        unsigned char *f = p + i * 512 % len;
        emit_body(f, i, 32);
        __asm__ volatile("" ::: "memory");
        for (int j = 0; j < 20; j++)
            sum = ((fn1)f)(sum + j);
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = sum;
    munmap(p, len);
    return 0;
}

int w_jit_mprotect(struct res *r, unsigned long n)
{
    size_t len = 16 * 4096;
    unsigned char *p = rwx(len, PROT_READ | PROT_WRITE);
    if (!p)
        return skip(r, "no memory");
    uint64_t sum = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        unsigned char *f = p + i % 16 * 4096;
        mprotect(f, 4096, PROT_READ | PROT_WRITE);
        emit_body(f + i % 7 * 512, i, 32);
        if (mprotect(f, 4096, PROT_READ | PROT_EXEC))
            return skip(r, "mprotect failed");
        for (int j = 0; j < 20; j++)
            sum = ((fn1)(f + i % 7 * 512))(sum + j);
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = sum;
    munmap(p, len);
    return 0;
}

/* Code that runs once: how fast can an engine start on code it never saw? */
int w_code_cold(struct res *r, unsigned long n)
{
    const size_t fsz = 256, cnt = 4096;
    uint64_t sum = 0;
    r->sec = 0;
    for (unsigned long k = 0; k < n; k++) {
        unsigned char *p = rwx(fsz * cnt, PROT_READ | PROT_WRITE);
        if (!p)
            return skip(r, "no memory");
        for (size_t i = 0; i < cnt; i++)
            emit_body(p + i * fsz, i * 3 + k, 16);
        if (mprotect(p, fsz * cnt, PROT_READ | PROT_EXEC))
            return skip(r, "mprotect failed");
        double t = now();
        for (size_t i = 0; i < cnt; i++)
            sum = ((fn1)(p + i * fsz))(sum);
        r->sec += now() - t;
        munmap(p, fsz * cnt);
    }
    r->ops = n * cnt;
    r->sum = sum;
    return 0;
}
