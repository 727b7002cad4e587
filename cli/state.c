/* state: libvirt's numbers for states and reasons, in virsh's words. */
#include "config.h"

#include "cli/state.h"

static const char *const states[] = {
    [VIR_DOMAIN_NOSTATE] = "no state",       [VIR_DOMAIN_RUNNING] = "running",
    [VIR_DOMAIN_BLOCKED] = "idle",           [VIR_DOMAIN_PAUSED] = "paused",
    [VIR_DOMAIN_SHUTDOWN] = "in shutdown",   [VIR_DOMAIN_SHUTOFF] = "shut off",
    [VIR_DOMAIN_CRASHED] = "crashed",        [VIR_DOMAIN_PMSUSPENDED] = "pmsuspended",
};

static const char *const running_reasons[] = {
    "unknown", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration canceled",
    "save canceled", "event wakeup", "crashed", "post-copy", "post-copy failed",
};
static const char *const paused_reasons[] = {
    "unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot",
    "shutting down", "creating snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "api error",
};
static const char *const shutdown_reasons[] = {"unknown", "user"};
static const char *const shutoff_reasons[] = {
    "unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon",
};
static const char *const crashed_reasons[] = {"unknown", "panicked"};
static const char *const other_reasons[] = {"unknown"};

#define REASONS(array) {array, G_N_ELEMENTS(array)}
static const struct {
    const char *const *words;
    guint n;
} reasons[] = {
    [VIR_DOMAIN_NOSTATE] = REASONS(other_reasons),     [VIR_DOMAIN_RUNNING] = REASONS(running_reasons),
    [VIR_DOMAIN_BLOCKED] = REASONS(other_reasons),     [VIR_DOMAIN_PAUSED] = REASONS(paused_reasons),
    [VIR_DOMAIN_SHUTDOWN] = REASONS(shutdown_reasons), [VIR_DOMAIN_SHUTOFF] = REASONS(shutoff_reasons),
    [VIR_DOMAIN_CRASHED] = REASONS(crashed_reasons),   [VIR_DOMAIN_PMSUSPENDED] = REASONS(other_reasons),
};

const char *cli_domain_state(int state)
{
    return state >= 0 && state < (int)G_N_ELEMENTS(states) ? states[state] : "no state";
}

const char *cli_domain_reason(int state, int reason)
{
    if (state < 0 || state >= (int)G_N_ELEMENTS(reasons) || reason < 0 || (guint)reason >= reasons[state].n)
        return "unknown";
    return reasons[state].words[reason];
}
