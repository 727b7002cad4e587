/* The MSRs that are plain storage: those that no other part of the machine or struct hv_cpu holds.
 */
#pragma once

#include "hv/domain.h"

#define HV_MTRR_FIXED    11
#define HV_MTRR_VARIABLE 8

struct hv_msrs {
    uint64_t mtrr_def_type;
    uint64_t mtrr_fixed[HV_MTRR_FIXED];
    uint64_t mtrr_variable[2 * HV_MTRR_VARIABLE]; /* base, mask */
    uint64_t mcg_status;
    uint64_t tsc_adjust;
    uint64_t amd_syscfg, amd_hwcr, amd_de_cfg;
};

int hv_msrs_new(struct hv_vcpu *v) HV_MUST_CHECK;
void hv_msrs_free(struct hv_vcpu *v);
/* The values after power-up, with the caching that firmware would have set: write-back. */
void hv_msrs_reset(struct hv_vcpu *v);

struct hv_decoder;
struct hv_encoder;
/* State for a stream: of the MSRs here. Decoding, after that of struct hv_cpu, checks those that are kept there, too. */
void hv_msrs_encode(const struct hv_vcpu *v, struct hv_encoder *e);
int hv_msrs_decode(struct hv_vcpu *v, struct hv_decoder *d) HV_MUST_CHECK;
