/* Random instructions with a memory operand that is under control. */
#include "config.h"

#include "hv/engine/difftest-gen.h"

#include <string.h>

uint64_t dt_random(struct dt_gen *g)
{
    uint64_t z = g->rng += 0x9e3779b97f4a7c15; /* splitmix64: Steele, Lea, Flood, OOPSLA 2014 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

unsigned dt_below(struct dt_gen *g, unsigned n)
{
    return (unsigned)(dt_random(g) % n);
}

bool dt_chance(struct dt_gen *g, unsigned percent)
{
    return dt_below(g, 100) < percent;
}

uint8_t dt_free_register(struct dt_gen *g)
{
    uint8_t reg;

    do
        reg = (uint8_t)dt_below(g, g->test->code32 ? 8 : HV_NR_GPR);
    while (g->reserved & (1u << reg));
    return reg;
}

/* Where candidates come from. A list of opcodes, or any opcode of a map. */
struct group {
    uint8_t weight;
    enum { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A, MAP_BMI, MAP_VEX1, MAP_VEX2, MAP_VEX3 } map;
    bool mandatory;    /* with 66, F2 or F3 more often than not */
    uint8_t rep, lock; /* percent that have such a prefix */
    uint8_t count;     /* of opcodes; 0: any */
    uint8_t opcodes[12];
};

static const struct group groups[] = {
    {30, MAP_1, false, 2, 1, 0, {0}},
    {14, MAP_0F, false, 1, 1, 0, {0}},
    {18, MAP_0F, true, 0, 0, 0, {0}},
    {8, MAP_0F38, true, 0, 0, 0, {0}},
    {6, MAP_0F3A, true, 0, 0, 0, {0}},
    {9, MAP_1, false, 0, 0, 8, {0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf}}, /* x87 */
    {5,
     MAP_1,
     false,
     60,
     0,
     10,
     {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}},   /* strings */
    {4, MAP_1, false, 0, 0, 6, {0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3}}, /* shifts */
    {4, MAP_1, false, 0, 0, 4, {0xf6, 0xf7, 0x69, 0x6b}},             /* mul, div, not */
    {3, MAP_1, false, 0, 0, 2, {0xfe, 0xff}},
    {4,
     MAP_1,
     false,
     0,
     0,
     12,
     {0x70, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x7a, 0x7c, 0x7d, 0x7f}}, /* branches */
    {4,
     MAP_1,
     false,
     0,
     70,
     12,
     {0x00, 0x01, 0x09, 0x10, 0x11, 0x18, 0x19, 0x21, 0x29, 0x31, 0x86, 0x87}},
    {3,
     MAP_0F,
     false,
     0,
     70,
     12,
     {0xb0, 0xb1, 0xc0, 0xc1, 0xc7, 0xab, 0xb3, 0xbb, 0xba, 0xa3, 0xa4, 0xad}},
    {3, MAP_0F, false, 40, 0, 8, {0xb8, 0xbc, 0xbd, 0xaf, 0xa5, 0xac, 0xb6, 0xbf}},
    {5, MAP_BMI, false, 0, 0, 5, {0xf0, 0xf2, 0xf3, 0xf5, 0xf7}},
    {14, MAP_VEX1, false, 0, 0, 0, {0}},
    {16, MAP_VEX2, false, 0, 0, 0, {0}},
    {10, MAP_VEX3, false, 0, 0, 0, {0}},
    {6,
     MAP_VEX2,
     false,
     0,
     0,
     12,
     {0x2c, 0x2d, 0x2e, 0x2f, 0x8c, 0x8e, 0x90, 0x91, 0x92, 0x93, 0x92, 0x93}}, /* masks, gathers */
};

static const struct group *pick_group(struct dt_gen *g)
{
    unsigned total = 0, n;

    for (size_t i = 0; i < HV_ARRAY_LEN(groups); i++)
        total += groups[i].weight;
    n = dt_below(g, total);
    for (size_t i = 0;; i++) {
        if (n < groups[i].weight)
            return &groups[i];
        n -= groups[i].weight;
    }
}

static void pick_memop(struct dt_gen *g, struct dt_memop *m)
{
    static const uint8_t weighted[] = {
        DT_FORM_TMP, DT_FORM_TMP, DT_FORM_TMP, DT_FORM_TMP,   DT_FORM_PTR,
        DT_FORM_PTR, DT_FORM_RIP, DT_FORM_ABS, DT_FORM_INDEX, DT_FORM_STACK,
    };

    *m = (struct dt_memop){.form = weighted[dt_below(g, sizeof(weighted))], .disp_bytes = 4};
    if (g->grouped && dt_chance(g, 60))
        m->form = DT_FORM_PTR;
    m->scale = (uint8_t)dt_below(g, 4);
    m->address32 = dt_chance(g, 8);
    m->gs = dt_chance(g, 6);
    if (g->test->code32) { /* 16-bit addresses do not reach the sandbox, a null GS nothing at all */
        m->address32 = m->gs = false;
        if (m->form == DT_FORM_RIP)
            m->form = DT_FORM_ABS;
    }
    switch (m->form) {
    case DT_FORM_TMP:
        m->base = dt_free_register(g);
        m->indexed = dt_chance(g, 40);
        m->disp_bytes = (uint8_t[]){0, 1, 1, 4}[dt_below(g, 4)];
        if ((m->base & 7) == HV_RBP && !m->disp_bytes)
            m->disp_bytes = 1;
        break;
    case DT_FORM_PTR:
        m->base = g->pointer[g->grouped ? dt_chance(g, 15) : dt_below(g, 2)];
        m->indexed = g->grouped ? g->indexed : dt_chance(g, 40);
        if (g->grouped && !m->indexed && !m->gs)
            m->disp_bytes = dt_chance(g, 60) ? 1 : 4;
        break;
    case DT_FORM_INDEX:
        m->indexed = true;
        break;
    case DT_FORM_STACK:
        m->base = HV_RSP;
        m->disp_bytes = 1;
        m->gs = m->address32 = false;
        break;
    default:
        break;
    }
}

/* ModRM and SIB of the memory operand, displacement zero; gives how many bytes, and sets REX.X and
 * REX.B. */
static unsigned encode_memop(const struct dt_gen *g, const struct dt_memop *m, unsigned reg,
                             uint8_t *out, uint8_t *rex)
{
    bool has_base = m->form == DT_FORM_TMP || m->form == DT_FORM_PTR || m->form == DT_FORM_STACK;
    unsigned mod = !has_base ? 0 : m->disp_bytes == 0 ? 0 : m->disp_bytes == 1 ? 1 : 2;
    bool sib = m->form == DT_FORM_ABS || m->indexed || (has_base && (m->base & 7) == HV_RSP);
    unsigned base = has_base ? m->base : HV_RBP;     /* 5: a displacement instead */
    unsigned index = m->indexed ? g->index : HV_RSP; /* 4: none */
    unsigned length = 0;

    *rex = (uint8_t)((*rex & ~3u) | (m->indexed && index >= 8) << 1 | (has_base && base >= 8));
    out[length++] = (uint8_t)(mod << 6 | reg << 3 | (sib ? 4 : base & 7));
    if (sib)
        out[length++] = (uint8_t)(m->scale << 6 | (index & 7) << 3 | (base & 7));
    memset(out + length, 0, m->disp_bytes);
    return length + m->disp_bytes;
}

static unsigned encode_prefixes(struct dt_gen *g, const struct group *group, struct dt_candidate *c)
{
    static const uint8_t mandatory[] = {0, 0x66, 0x66, 0xf2, 0xf3, 0xf3};
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e};
    uint8_t prefix = group->mandatory ? mandatory[dt_below(g, sizeof(mandatory))] : 0;
    unsigned n = 0;

    if (dt_chance(g, group->lock))
        c->bytes[n++] = 0xf0;
    if (c->memop.gs)
        c->bytes[n++] = 0x65;
    else if (dt_chance(g, 3))
        c->bytes[n++] = segments[dt_below(g, sizeof(segments))];
    if (c->memop.address32)
        c->bytes[n++] = 0x67;
    if (prefix == 0x66 || (!group->mandatory && group->map < MAP_BMI && dt_chance(g, 18)))
        c->bytes[n++] = 0x66;
    if (prefix > 0x66)
        c->bytes[n++] = prefix;
    else if (dt_chance(g, group->rep))
        c->bytes[n++] = dt_chance(g, 50) ? 0xf2 : 0xf3;
    return n;
}

static const uint8_t map_bytes[][2] = {
    [MAP_0F] = {0x0f}, [MAP_0F38] = {0x0f, 0x38}, [MAP_0F3A] = {0x0f, 0x3a}};

static unsigned encode_legacy(struct dt_gen *g, const struct group *group, uint8_t rex,
                              uint8_t opcode, uint8_t *out)
{
    unsigned n = 0;

    if (!g->test->code32 && (rex || dt_chance(g, 10)))
        out[n++] = 0x40 | rex;
    for (unsigned i = 0; i < 2 && group->map != MAP_1; i++)
        if (map_bytes[group->map][i])
            out[n++] = map_bytes[group->map][i];
    out[n++] = opcode;
    return n;
}

/* Vector instructions: C4, inverted R X B and map, W inverted vvvv L pp; or C5 for the likes of
 * map 1, inverted R inverted vvvv L pp. */
static unsigned encode_vex(struct dt_gen *g, unsigned map, uint8_t rex, uint8_t opcode,
                           uint8_t *out)
{
    uint8_t rest =
        (uint8_t)(dt_chance(g, 35) ? 15 << 3 : dt_below(g, 16) << 3) | (uint8_t)dt_below(g, 8);

    if (g->test->code32) {
        rest |= 0x40;
        rex &= 8;
    }
    if (map == 1 && !(rex & 11) && dt_chance(g, 50)) {
        out[0] = 0xc5;
        out[1] = (uint8_t)((~rex & 4) << 5 | rest);
        out[2] = opcode;
        return 3;
    }
    out[0] = 0xc4;
    out[1] = (uint8_t)((~rex & 7) << 5 | map);
    out[2] = (uint8_t)((rex & 8) << 4 | rest);
    out[3] = opcode;
    return 4;
}

/* RORX is the one in map 3. */
static unsigned encode_bmi(struct dt_gen *g, uint8_t rex, uint8_t opcode, uint8_t *out)
{
    out[0] = 0xc4;
    out[1] = (uint8_t)((~rex & 7) << 5 | (opcode == 0xf0 ? 3 : 2));
    out[2] = (uint8_t)((rex & 8) << 4 | (opcode == 0xf0 ? 15 : dt_below(g, 16)) << 3 |
                       (opcode == 0xf0 ? 3 : dt_below(g, 4)));
    if (g->test->code32) /* else it would be LES, and there are but eight registers */
        out[1] |= 0xe0, out[2] |= 0x40;
    out[3] = opcode;
    return 4;
}

static unsigned encode_opcode(struct dt_gen *g, const struct group *group, uint8_t rex,
                              uint8_t opcode, uint8_t *out)
{
    if (group->map < MAP_BMI)
        return encode_legacy(g, group, rex, opcode, out);
    if (group->map == MAP_BMI)
        return encode_bmi(g, rex, opcode, out);
    return encode_vex(g, group->map - MAP_VEX1 + 1, rex, opcode, out);
}

/* Bytes of the one-byte map that are the start of something longer: all after them would be out of
 * control. */
static bool is_escape(const struct dt_gen *g, const struct group *group, uint8_t opcode)
{
    static const uint8_t escapes[] = {0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x62, 0x64, 0x65,
                                      0x66, 0x67, 0xc4, 0xc5, 0xf0, 0xf2, 0xf3};

    if (group->map == MAP_0F)
        return opcode == 0x38 || opcode == 0x3a || opcode == 0x0f;
    if (group->map != MAP_1)
        return false;
    return ((opcode & 0xf0) == 0x40 && !g->test->code32) ||
           memchr(escapes, opcode, sizeof(escapes));
}

static void random_bytes(struct dt_gen *g, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)dt_random(g);
}

bool dt_make_candidate(struct dt_gen *g, struct dt_candidate *c)
{
    const struct group *group = pick_group(g);
    uint8_t opcode = (uint8_t)dt_random(g), rex = 0, modrm[8];
    unsigned n, modrm_bytes = 1, reg = dt_below(g, 8);
    ZyanStatus status;

    memset(c, 0, sizeof(*c));
    c->code32 = g->test->code32;
    pick_memop(g, &c->memop);
    if (group->count)
        opcode = group->opcodes[dt_below(g, group->count)];
    if (is_escape(g, group, opcode))
        return false;
    if (!c->code32 && dt_chance(g, 55))
        rex = (uint8_t)dt_below(g, 16);
    if (dt_chance(g, 50))
        modrm_bytes = encode_memop(g, &c->memop, reg, modrm, &rex);
    else
        modrm[0] = (uint8_t)(0xc0 | reg << 3 | dt_below(g, 8));

    n = encode_prefixes(g, group, c);
    n += encode_opcode(g, group, rex, opcode, c->bytes + n);
    memcpy(c->bytes + n, modrm, modrm_bytes);
    n += modrm_bytes;
    random_bytes(g, c->bytes + n, 8); /* immediates */
    status = ZydisDecoderDecodeFull(&g->decoder, c->bytes, ZYDIS_MAX_INSTRUCTION_LENGTH, &c->insn,
                                    c->operands);
    if (ZYAN_FAILED(status))
        return false;
    for (unsigned i = 0; i < c->insn.operand_count; i++)
        if (c->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (c->operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
             c->operands[i].encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64))
            c->memory = &c->operands[i];
    return true;
}

void dt_setup_bytes(struct dt_candidate *c, const uint8_t *bytes, size_t count)
{
    if (c->code32 && (bytes[0] & 0xf0) == 0x40) {
        bytes++;
        count--;
    }
    memcpy(c->setup[c->nr_setup].bytes, bytes, count);
    c->setup[c->nr_setup++].length = (uint8_t)count;
}

void dt_setup_mov32(struct dt_candidate *c, unsigned reg, uint32_t value)
{
    DT_SETUP(c, (uint8_t)(0x40 | reg >> 3), (uint8_t)(0xb8 | (reg & 7)), (uint8_t)value,
             (uint8_t)(value >> 8), (uint8_t)(value >> 16),
             (uint8_t)(value >> 24)); /* mov reg32, value */
}

void dt_setup_lea(struct dt_gen *g, struct dt_candidate *c, unsigned reg, uint64_t address)
{
    unsigned base = g->pointer[0];
    uint32_t disp = (uint32_t)(address - g->test->start.gpr[base]);
    uint8_t modrm = (uint8_t)(0x80 | (reg & 7) << 3 | (base & 7));
    uint8_t rex = (uint8_t)(0x48 | (reg >> 3) << 2 | base >> 3);
    uint8_t d0 = (uint8_t)disp, d1 = (uint8_t)(disp >> 8), d2 = (uint8_t)(disp >> 16),
            d3 = (uint8_t)(disp >> 24);

    if ((base & 7) == HV_RSP)
        DT_SETUP(c, rex, 0x8d, modrm, 0x24, d0, d1, d2, d3); /* lea reg, [r12 + disp] */
    else
        DT_SETUP(c, rex, 0x8d, modrm, d0, d1, d2, d3); /* lea reg, [base + disp] */
}

/* Around the ends of what may be read and written. */
static uint64_t pick_bad_address(struct dt_gen *g, unsigned bytes)
{
    static const uint64_t edges[] = {
        DT_DATA,
        DT_DATA + DT_DATA_RW_PAGES * HV_PAGE_SIZE,
        DT_DATA + DT_DATA_PAGES * HV_PAGE_SIZE,
    };

    return edges[dt_below(g, HV_ARRAY_LEN(edges))] + dt_below(g, 2 * bytes + 16) - bytes - 8;
}

uint64_t dt_pick_address(struct dt_gen *g, unsigned bytes, bool aligned)
{
    const unsigned margin = 768;
    uint64_t address;

    if (g->faults && dt_chance(g, 35))
        address = pick_bad_address(g, bytes);
    else if (dt_chance(g, 30))
        address = DT_DATA + HV_PAGE_SIZE - dt_below(g, bytes + 4);
    else
        address = DT_DATA + margin + dt_below(g, DT_DATA_RW_PAGES * HV_PAGE_SIZE - 2 * margin);
    if (aligned && !(g->faults && dt_chance(g, 15)))
        address &= ~(uint64_t)(bytes - 1);
    return address;
}

/* Legacy SSE wants 16-byte operands aligned, CMPXCHG16B too, and VMOVAPS and its kin; others do not
 * mind. */
bool dt_wants_alignment(const struct dt_candidate *c)
{
    if (c->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return c->insn.meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX1;
    return c->memory->size == 128;
}

bool dt_is_gather(const struct dt_candidate *c)
{
    return c->insn.meta.isa_ext == ZYDIS_ISA_EXT_AVX2GATHER;
}

static void put_displacement(struct dt_candidate *c, uint64_t value)
{
    memcpy(c->bytes + c->insn.raw.disp.offset, &value, c->insn.raw.disp.size / 8);
}

/* The address of the memory operand: near the pointer that it goes by, if that is what the test is
 * about, and may fault where that is near what must not be touched. */
static uint64_t pick_operand(struct dt_gen *g, const struct dt_candidate *c, bool may_fault)
{
    unsigned bytes = c->memory->size / 8;
    uint64_t pointer = g->test->start.gpr[c->memop.base & 15], address;
    bool aligned = dt_wants_alignment(c);

    if (!g->grouped || c->memop.form != DT_FORM_PTR ||
        (!may_fault && pointer - (DT_DATA + HV_PAGE_SIZE / 2) > HV_PAGE_SIZE))
        return dt_pick_address(g, bytes, aligned);
    address = pointer + dt_below(g, 112) - 56;
    if (aligned && !(may_fault && dt_chance(g, 5)))
        address &= ~(uint64_t)(bytes - 1);
    return address;
}

bool dt_place_memory(struct dt_gen *g, struct dt_candidate *c)
{
    const struct dt_memop *m = &c->memop;
    uint64_t address = pick_operand(g, c, g->faults);
    uint64_t offset;

    if (m->gs)
        address -= DT_GS;
    offset = address;
    if (c->memory->encoding ==
        ZYDIS_OPERAND_ENCODING_DISP16_32_64) { /* MOV with an address for immediate */
        put_displacement(c, address);
        return true;
    }
    if (m->form == DT_FORM_RIP)
        return true;
    if (m->form == DT_FORM_STACK) { /* at the top for a branch that goes where the setup says */
        c->bytes[c->insn.raw.disp.offset] = (uint8_t)(c->return_setup ? 0 : 8 * dt_below(g, 8));
        return true;
    }
    if (m->indexed && !dt_is_gather(c))
        offset -= g->test->start.gpr[g->index] << m->scale;
    if (m->form == DT_FORM_PTR)
        offset -= g->test->start.gpr[m->base];
    if (m->form != DT_FORM_TMP) {
        put_displacement(c, offset);
        return m->disp_bytes == 4 || (int8_t)offset == (int64_t)offset;
    }
    if (g->faults && !c->code32 && dt_chance(g, 4)) { /* not canonical */
        DT_SETUP(c, (uint8_t)(0x48 | m->base >> 3), (uint8_t)(0xb8 | (m->base & 7)), 1, 2, 3, 4, 5,
                 6, 0x80, (uint8_t)dt_random(g)); /* mov base, imm64 */
        return true;
    }
    if (m->disp_bytes) {
        int32_t disp =
            m->disp_bytes == 1 ? (int8_t)dt_random(g) : (int32_t)dt_below(g, 1 << 20) - (1 << 19);

        put_displacement(c, (uint64_t)(int64_t)disp);
        offset -= (uint64_t)(int64_t)disp;
    }
    dt_setup_lea(g, c, m->base, offset);
    return true;
}

void dt_fix_rip(struct dt_gen *g, struct dt_candidate *c, uint64_t address)
{
    uint64_t target;

    if (!c->memory ||
        (c->memory->mem.base != ZYDIS_REGISTER_RIP && c->memory->mem.base != ZYDIS_REGISTER_EIP))
        return;
    target =
        dt_pick_address(g, c->memory->size / 8, dt_wants_alignment(c)) - (c->memop.gs ? DT_GS : 0);
    put_displacement(c, target - address - c->insn.length);
}
