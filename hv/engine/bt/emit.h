/* A small assembler for 64-bit code: what translated code has around the guest's instructions. */
#pragma once

#include "hv/engine/bt/bt.h"

enum bt_host { BT_R10 = 10, BT_R11 = 11 };

static inline uint8_t *bt_at(struct bt *bt)
{
    return bt->code_rw + bt->code_used;
}

void bt_emit_bytes(struct bt *bt, const void *bytes, unsigned count);
void bt_emit8(struct bt *bt, uint8_t byte);
void bt_emit32(struct bt *bt, uint32_t value);
void bt_emit64(struct bt *bt, uint64_t value);

#define BT_EMIT(bt, ...)                                                                           \
    bt_emit_bytes(bt, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

void bt_emit_load_slot(struct bt *bt, unsigned reg, uint32_t slot);  /* mov reg, gs:[slot] */
void bt_emit_store_slot(struct bt *bt, unsigned reg, uint32_t slot); /* mov gs:[slot], reg */
/* mov reg, gs:[index * 8 + table] */
void bt_emit_load_table(struct bt *bt, unsigned reg, unsigned index, uint32_t table);
/* mov gs:[index * 8 + table], reg */
void bt_emit_store_table(struct bt *bt, unsigned reg, unsigned index, uint32_t table);
/* pext to, from, gs:[slot] */
void bt_emit_pext(struct bt *bt, unsigned to, unsigned from, uint32_t slot);
void bt_emit_rorx(struct bt *bt, unsigned to, unsigned from, uint8_t by); /* rorx to, from, by */
void bt_emit_mov(struct bt *bt, unsigned to, unsigned from);              /* mov to, from */
void bt_emit_mov32(struct bt *bt, unsigned to, unsigned from);            /* of 32 bits */
void bt_emit_mov_imm(struct bt *bt, unsigned reg, uint64_t value);        /* mov reg, value */
void bt_emit_mov32_imm(struct bt *bt, unsigned reg, uint32_t value);      /* mov reg32, value */
void bt_emit_load(struct bt *bt, unsigned reg, unsigned base,
                  int32_t disp); /* mov reg, [base+disp] */
void bt_emit_store(struct bt *bt, unsigned reg, unsigned base,
                   int32_t disp); /* mov [base+disp], reg */
/* lea reg, [base + index * (1 << scale) + disp]; 16 for no base, 4 for no index */
void bt_emit_lea32(struct bt *bt, unsigned reg, unsigned base, unsigned index, unsigned scale,
                   int32_t disp); /* of 32 bits, the upper ones become 0 */
void bt_emit_lea(struct bt *bt, unsigned reg, unsigned base, unsigned index, unsigned scale,
                 int32_t disp);
/* A memory operand of the host. */
struct bt_place {
    uint8_t base;  /* 16: none */
    uint8_t index; /* not scaled; 4: none */
    int32_t disp;
};

/* REX of an instruction with register @reg and memory operand @p; @w is its W bit. */
uint8_t bt_rex(unsigned w, unsigned reg, const struct bt_place *p);
/* ModRM, SIB and displacement. */
void bt_emit_modrm(struct bt *bt, unsigned reg, const struct bt_place *p);
/* mov reg, [p] and mov [p], reg of 4 or 8 bytes */
void bt_emit_load_place(struct bt *bt, unsigned bytes, unsigned reg, const struct bt_place *p);
void bt_emit_store_place(struct bt *bt, unsigned bytes, unsigned reg, const struct bt_place *p);
/* op reg, gs:[slot] with a 64-bit operand: enum bt_alu. */
enum bt_alu { BT_ADD = 0x03, BT_AND = 0x23, BT_CMP = 0x3b };
void bt_emit_store_slot_imm(struct bt *bt, uint32_t slot,
                            int32_t value); /* mov qword gs:[slot], value */
void bt_emit_alu_slot(struct bt *bt, enum bt_alu op, unsigned reg, uint32_t slot);
/* op reg, gs:[index * 8 + table] */
void bt_emit_alu_table(struct bt *bt, enum bt_alu op, unsigned reg, unsigned index, uint32_t table);
void bt_emit_cmp_imm(struct bt *bt, unsigned reg, int32_t value); /* cmp reg, value */
void bt_emit_cmp_slot_imm(struct bt *bt, bool wide, uint32_t slot,
                          int32_t value); /* cmp gs:[slot], value */
void bt_emit_jmp_table(struct bt *bt, unsigned index,
                       uint32_t table);                /* jmp gs:[index * 8 + table] */
void bt_emit_jmp(struct bt *bt, uint32_t target);      /* jmp target */
uint32_t bt_emit_jmp_open(struct bt *bt);              /* jmp ?: where its distance is */
uint32_t bt_emit_jcc_open(struct bt *bt, unsigned cc); /* jcc ?: where its distance is */
void bt_close(struct bt *bt, uint32_t at);             /* ? is here */
uint32_t bt_emit_jrcxz_open(struct bt *bt);            /* jrcxz ?: where its 8-bit distance is */
void bt_close8(struct bt *bt, uint32_t at);

/* ---- count.c */
/* Counts @by events, if the domain is counted; @scratch is lost, flags are kept. */
void bt_emit_count(struct bt *bt, enum bt_counter counter, unsigned by, unsigned scratch);
/* Counts one event; flags are lost. */
void bt_emit_count_destroying(struct bt *bt, enum bt_counter counter);
