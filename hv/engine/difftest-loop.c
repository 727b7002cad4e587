/* Loops of the differential test, whose instructions change while they run: an immediate that grows
 * at each turn, a condition that turns into its opposite; with accesses by one register between.
 */
#include "config.h"

#include "hv/engine/difftest-gen.h"

#include <string.h>

#define LOOP_INSNS 14
#define LOOP_BYTES 96
#define PLACES     3

struct loop {
    struct dt_gen *g;
    uint32_t top;           /* code offset of the first instruction */
    uint8_t counter;        /* register */
    uint32_t place[PLACES]; /* code offsets of bytes that may be changed */
    bool condition[PLACES]; /* it is the opcode of a conditional jump, else an immediate */
    unsigned nr_places;
};

static void append(struct loop *l, const uint8_t *bytes, unsigned count)
{
    dt_append_insn(l->g, bytes, count);
}

#define APPEND(l, ...)                                                                             \
    append(l, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* @opcode ModRM imm32 with a register operand; an opcode of one byte with the register in it if
 * @modrm is 0. Gives the code offset of the immediate. */
static uint32_t append_with_immediate(struct loop *l, uint8_t opcode, uint8_t modrm, unsigned reg)
{
    uint8_t bytes[8], rex = (uint8_t)(0x40 | reg >> 3);
    uint32_t value = (uint32_t)dt_random(l->g);
    unsigned n = 0;

    if (rex != 0x40)
        bytes[n++] = rex;
    bytes[n++] = modrm ? opcode : (uint8_t)(opcode | (reg & 7));
    if (modrm)
        bytes[n++] = (uint8_t)(modrm | (reg & 7));
    memcpy(bytes + n, &value, 4);
    append(l, bytes, n + 4);
    return l->g->test->code_bytes - 4;
}

static uint8_t other_register(const struct loop *l)
{
    uint8_t reg;

    do
        reg = dt_free_register(l->g);
    while (reg == l->counter);
    return reg;
}

static void note_place(struct loop *l, uint32_t offset, bool condition)
{
    l->place[l->nr_places] = offset;
    l->condition[l->nr_places++] = condition;
}

/* ADD, SUB, XOR or CMP with an immediate that may be changed; or MOV, unless the flags are wanted.
 */
static void append_arithmetic(struct loop *l, bool flags)
{
    static const uint8_t modrms[] = {0xc0, 0xe8, 0xf0, 0xf8}; /* /0, /5, /6, /7 */
    unsigned reg = other_register(l);
    uint32_t at = !flags && dt_chance(l->g, 25)
                      ? append_with_immediate(l, 0xb8, 0, reg)
                      : append_with_immediate(l, 0x81, modrms[dt_below(l->g, 4)], reg);

    note_place(l, at + dt_below(l->g, 4), false);
}

/* ADD and a conditional jump over an INC; the condition may be changed. */
static void append_condition(struct loop *l)
{
    unsigned reg = other_register(l);
    uint8_t rex = (uint8_t)(0x40 | reg >> 3), modrm = (uint8_t)(0xc0 | (reg & 7));
    bool wide = rex != 0x40;

    append_with_immediate(l, 0x81, 0xc0, reg); /* add reg, imm32 */
    note_place(l, l->g->test->code_bytes, true);
    APPEND(l, (uint8_t)(0x70 | dt_below(l->g, 16)), wide ? 3 : 2); /* jcc */
    if (wide)
        APPEND(l, rex, 0xff, modrm); /* inc reg */
    else
        APPEND(l, 0xff, modrm);
}

/* An access by one of the pointers. */
static void append_access(struct loop *l)
{
    /* mov, mov, add, add, adc, cmp, xchg, or */
    static const uint8_t opcodes[] = {0x8b, 0x89, 0x03, 0x01, 0x13, 0x39, 0x87, 0x09};
    struct dt_gen *g = l->g;
    unsigned reg = other_register(l), base = g->pointer[dt_below(g, 2)], n = 0;
    uint8_t bytes[8], rex = (uint8_t)(0x40 | (reg >> 3) << 2 | base >> 3);
    uint8_t opcode = opcodes[dt_below(g, sizeof(opcodes))];

    if (!g->test->code32 && dt_chance(g, 50))
        rex |= 8;
    if (opcode == 0x01 && dt_chance(g, 30))
        bytes[n++] = 0xf0; /* lock */
    if (rex != 0x40)
        bytes[n++] = rex;
    bytes[n++] = opcode;
    bytes[n++] = (uint8_t)(0x40 | (reg & 7) << 3 | (base & 7));
    if ((base & 7) == HV_RSP)
        bytes[n++] = 0x24;
    bytes[n++] = (uint8_t)(dt_below(g, 128) - 64);
    append(l, bytes, n);
}

/* Changes one of the places: ADD or XOR of a byte. */
static void append_change(struct loop *l)
{
    struct dt_gen *g = l->g;
    unsigned i = dt_below(g, l->nr_places);
    uint32_t target = (uint32_t)g->test->code_address + l->place[i];
    uint8_t modrm = l->condition[i] ? 0x35 : 0x05, value;
    uint8_t t[4];

    value = l->condition[i] ? 1 : (uint8_t)dt_random(g);
    if (!g->test->code32) /* relative to the next instruction, of seven bytes */
        target -= (uint32_t)(g->test->code_address + g->test->code_bytes + 7);
    memcpy(t, &target, 4);
    APPEND(l, 0x80, modrm, t[0], t[1], t[2], t[3], value);
}

/* DEC and JNZ to the top. */
static void append_turn(struct loop *l)
{
    uint8_t rex = (uint8_t)(0x40 | l->counter >> 3), modrm = (uint8_t)(0xc8 | (l->counter & 7));

    if (rex != 0x40)
        APPEND(l, rex, 0xff, modrm); /* dec counter */
    else
        APPEND(l, 0xff, modrm);
    APPEND(l, 0x75, (uint8_t)(l->top - (l->g->test->code_bytes + 2)));
}

static bool has_room(const struct dt_test *t)
{
    return t->nr_insns + LOOP_INSNS + 2 <= DT_MAX_INSNS &&
           t->code_bytes + LOOP_BYTES + ZYDIS_MAX_INSTRUCTION_LENGTH <= DT_CODE_BYTES;
}

bool dt_append_loop(struct dt_gen *g)
{
    struct loop l = {.g = g};

    /* A branch over the loop would have to reach far. */
    if (g->nr_fixups || !has_room(g->test))
        return false;
    l.counter = dt_free_register(g);
    if (l.counter >= 8)
        APPEND(&l, 0x41, (uint8_t)(0xb8 | (l.counter & 7)), (uint8_t)(1 + dt_below(g, 6)), 0, 0, 0);
    else
        APPEND(&l, (uint8_t)(0xb8 | l.counter), (uint8_t)(1 + dt_below(g, 6)), 0, 0, 0);
    l.top = g->test->code_bytes;
    append_arithmetic(&l, true); /* for ADC */
    for (unsigned i = dt_below(g, 3); i > 0; i--)
        append_access(&l);
    if (dt_chance(g, 40))
        append_condition(&l);
    if (dt_chance(g, 75))
        append_change(&l);
    for (unsigned i = dt_below(g, 3); i > 0; i--)
        append_access(&l);
    if (dt_chance(g, 40))
        append_arithmetic(&l, false);
    append_turn(&l);
    return true;
}
