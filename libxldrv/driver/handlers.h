/* Handlers of procedures, by the file they are in: each has the name of its procedure in procedures.c. */
#pragma once

#include "libxldrv/rpc/rpc.h"

#define XLDRV_HANDLER(name)                                                                        \
    GVariant *xldrv_handle_##name(XldrvCall *call, GVariant *args, GError **error)

/* actions.c */
XLDRV_HANDLER(domain_set_lifecycle_action);

/* graphics.c */
XLDRV_HANDLER(domain_screenshot);
XLDRV_HANDLER(domain_send_key);
XLDRV_HANDLER(domain_open_graphics);
XLDRV_HANDLER(domain_open_graphics_fd);

/* connection.c */
XLDRV_HANDLER(connect_open);
XLDRV_HANDLER(connect_close);
XLDRV_HANDLER(connect_get_type);
XLDRV_HANDLER(connect_get_version);
XLDRV_HANDLER(connect_get_lib_version);
XLDRV_HANDLER(connect_get_uri);
XLDRV_HANDLER(connect_get_hostname);
XLDRV_HANDLER(connect_supports_feature);
XLDRV_HANDLER(connect_is_secure);
XLDRV_HANDLER(connect_set_identity);
XLDRV_HANDLER(domain_set_perf_events);
XLDRV_HANDLER(domain_get_perf_events);
XLDRV_HANDLER(domain_get_security_label_list);
XLDRV_HANDLER(domain_get_iothread_info);
XLDRV_HANDLER(node_suspend_for_duration);
XLDRV_HANDLER(node_alloc_pages);
XLDRV_HANDLER(node_set_memory_parameters);
XLDRV_HANDLER(node_get_memory_parameters);
XLDRV_HANDLER(domain_block_peek);
XLDRV_HANDLER(domain_memory_peek);
XLDRV_HANDLER(domain_start_dirty_rate_calc);
XLDRV_HANDLER(domain_reset);
XLDRV_HANDLER(connect_register_close_callback);
XLDRV_HANDLER(connect_unregister_close_callback);
XLDRV_HANDLER(connect_get_capabilities);
XLDRV_HANDLER(connect_get_domain_capabilities);
XLDRV_HANDLER(connect_get_max_vcpus);
XLDRV_HANDLER(connect_get_sysinfo);
XLDRV_HANDLER(connect_domain_event_callback_register_any);
XLDRV_HANDLER(connect_domain_event_callback_deregister_any);
XLDRV_HANDLER(connect_domain_event_register);
XLDRV_HANDLER(connect_domain_event_deregister);
XLDRV_HANDLER(connect_domain_event_register_any);
XLDRV_HANDLER(connect_domain_event_deregister_any);

/* console.c */
XLDRV_HANDLER(domain_open_console);
XLDRV_HANDLER(domain_open_channel);

/* define.c */
XLDRV_HANDLER(domain_define_xml);
XLDRV_HANDLER(domain_define_xml_flags);
XLDRV_HANDLER(domain_undefine);
XLDRV_HANDLER(domain_undefine_flags);
XLDRV_HANDLER(domain_rename);
XLDRV_HANDLER(domain_get_autostart);
XLDRV_HANDLER(domain_set_autostart);

/* disk-info.c */
XLDRV_HANDLER(domain_block_stats);
XLDRV_HANDLER(domain_block_stats_flags);
XLDRV_HANDLER(domain_get_block_info);
XLDRV_HANDLER(domain_block_resize);
XLDRV_HANDLER(domain_get_disk_errors);
XLDRV_HANDLER(domain_set_block_io_tune);
XLDRV_HANDLER(domain_get_block_io_tune);

/* guest-command.c */
XLDRV_HANDLER(domain_agent_set_response_timeout);

/* guest-cpus.c */
XLDRV_HANDLER(domain_get_guest_vcpus);
XLDRV_HANDLER(domain_set_guest_vcpus);

/* guest-files.c */
XLDRV_HANDLER(domain_get_fsinfo);
XLDRV_HANDLER(domain_fsfreeze);
XLDRV_HANDLER(domain_fsthaw);
XLDRV_HANDLER(domain_fstrim);

/* guest-info.c */
XLDRV_HANDLER(domain_get_guest_info);

/* guest-time.c */
XLDRV_HANDLER(domain_get_time);
XLDRV_HANDLER(domain_set_time);
XLDRV_HANDLER(domain_get_hostname);

/* guest-users.c */
XLDRV_HANDLER(domain_set_user_password);
XLDRV_HANDLER(domain_authorized_ssh_keys_get);
XLDRV_HANDLER(domain_authorized_ssh_keys_set);

/* hotplug.c */
XLDRV_HANDLER(domain_attach_device);
XLDRV_HANDLER(domain_attach_device_flags);
XLDRV_HANDLER(domain_detach_device);
XLDRV_HANDLER(domain_detach_device_flags);
XLDRV_HANDLER(domain_detach_device_alias);
XLDRV_HANDLER(domain_update_device_flags);

/* info.c */
XLDRV_HANDLER(domain_get_xml_desc);
XLDRV_HANDLER(domain_get_info);
XLDRV_HANDLER(domain_get_state);
XLDRV_HANDLER(domain_get_control_info);
XLDRV_HANDLER(domain_get_os_type);
XLDRV_HANDLER(domain_get_max_memory);
XLDRV_HANDLER(domain_is_active);
XLDRV_HANDLER(domain_is_persistent);
XLDRV_HANDLER(domain_is_updated);
XLDRV_HANDLER(domain_set_block_threshold);
XLDRV_HANDLER(domain_list_all_checkpoints);
XLDRV_HANDLER(domain_checkpoint_create_xml);
XLDRV_HANDLER(domain_checkpoint_get_xml_desc);
XLDRV_HANDLER(domain_checkpoint_list_all_children);
XLDRV_HANDLER(domain_checkpoint_lookup_by_name);
XLDRV_HANDLER(domain_checkpoint_get_parent);
XLDRV_HANDLER(domain_checkpoint_delete);
XLDRV_HANDLER(domain_get_messages);
XLDRV_HANDLER(domain_get_security_label);
XLDRV_HANDLER(node_get_security_model);

/* lifecycle.c */
XLDRV_HANDLER(domain_create);
XLDRV_HANDLER(domain_create_with_flags);
XLDRV_HANDLER(domain_create_xml);
XLDRV_HANDLER(domain_destroy);
XLDRV_HANDLER(domain_destroy_flags);
XLDRV_HANDLER(domain_shutdown);
XLDRV_HANDLER(domain_shutdown_flags);
XLDRV_HANDLER(domain_reboot);
XLDRV_HANDLER(domain_suspend);
XLDRV_HANDLER(domain_resume);

/* lookup.c */
XLDRV_HANDLER(domain_lookup_by_id);
XLDRV_HANDLER(domain_lookup_by_name);
XLDRV_HANDLER(domain_lookup_by_uuid);
XLDRV_HANDLER(connect_list_all_domains);
XLDRV_HANDLER(connect_num_of_domains);
XLDRV_HANDLER(connect_num_of_defined_domains);
XLDRV_HANDLER(connect_list_domains);
XLDRV_HANDLER(connect_list_defined_domains);

/* memory.c */
XLDRV_HANDLER(domain_set_memory);
XLDRV_HANDLER(domain_set_memory_flags);
XLDRV_HANDLER(domain_set_max_memory);
XLDRV_HANDLER(domain_set_memory_stats_period);

/* metadata.c */
XLDRV_HANDLER(domain_get_metadata);
XLDRV_HANDLER(domain_set_metadata);

/* nic-info.c */
XLDRV_HANDLER(domain_interface_stats);
XLDRV_HANDLER(domain_interface_addresses);

/* node.c */
XLDRV_HANDLER(node_get_info);
XLDRV_HANDLER(node_get_cpu_map);
XLDRV_HANDLER(node_get_cpu_stats);
XLDRV_HANDLER(node_get_memory_stats);
XLDRV_HANDLER(node_get_free_memory);
XLDRV_HANDLER(node_get_cells_free_memory);
XLDRV_HANDLER(node_get_free_pages);

/* memtune.c */
XLDRV_HANDLER(domain_get_memory_parameters);
XLDRV_HANDLER(domain_set_memory_parameters);
/* iftune.c */
XLDRV_HANDLER(domain_set_interface_parameters);
XLDRV_HANDLER(domain_get_interface_parameters);
/* blkiotune.c */
XLDRV_HANDLER(domain_get_blkio_parameters);
XLDRV_HANDLER(domain_set_blkio_parameters);
/* scheduler.c */
XLDRV_HANDLER(domain_get_scheduler_type);
XLDRV_HANDLER(domain_get_scheduler_parameters);
XLDRV_HANDLER(domain_get_scheduler_parameters_flags);
XLDRV_HANDLER(domain_set_scheduler_parameters);
XLDRV_HANDLER(domain_set_scheduler_parameters_flags);

/* stats.c */
XLDRV_HANDLER(domain_memory_stats);
XLDRV_HANDLER(connect_get_all_domain_stats);
XLDRV_HANDLER(domain_get_cpu_stats);

/* vcpus.c */
XLDRV_HANDLER(domain_get_vcpus_flags);
XLDRV_HANDLER(domain_get_max_vcpus);
XLDRV_HANDLER(domain_get_vcpus);

/* vcpu-hotplug.c */
XLDRV_HANDLER(domain_set_vcpus);
XLDRV_HANDLER(domain_set_vcpus_flags);

/* pin.c */
XLDRV_HANDLER(domain_get_vcpu_pin_info);
XLDRV_HANDLER(domain_pin_vcpu);
XLDRV_HANDLER(domain_pin_vcpu_flags);
XLDRV_HANDLER(domain_pin_emulator);
XLDRV_HANDLER(domain_get_emulator_pin_info);

/* cpu.c */
XLDRV_HANDLER(connect_compare_cpu);
XLDRV_HANDLER(connect_domain_xml_from_native);
XLDRV_HANDLER(connect_domain_xml_to_native);
XLDRV_HANDLER(connect_baseline_cpu);
XLDRV_HANDLER(connect_compare_hypervisor_cpu);
XLDRV_HANDLER(connect_baseline_hypervisor_cpu);
XLDRV_HANDLER(connect_get_cpu_model_names);

/* power.c */
XLDRV_HANDLER(domain_pm_suspend_for_duration);
XLDRV_HANDLER(domain_pm_wakeup);
XLDRV_HANDLER(domain_inject_nmi);

/* longjob.c */
XLDRV_HANDLER(domain_get_job_info);
XLDRV_HANDLER(domain_get_job_stats);
XLDRV_HANDLER(domain_abort_job);
XLDRV_HANDLER(domain_abort_job_flags);

/* save.c */
XLDRV_HANDLER(domain_save);
XLDRV_HANDLER(domain_save_flags);
XLDRV_HANDLER(domain_get_numa_parameters);
XLDRV_HANDLER(domain_set_numa_parameters);
XLDRV_HANDLER(domain_save_params);
XLDRV_HANDLER(domain_restore);
XLDRV_HANDLER(domain_restore_flags);
XLDRV_HANDLER(domain_restore_params);
XLDRV_HANDLER(domain_save_image_get_xml_desc);
XLDRV_HANDLER(domain_save_image_define_xml);
XLDRV_HANDLER(domain_managed_save);
XLDRV_HANDLER(domain_has_managed_save_image);
XLDRV_HANDLER(domain_managed_save_remove);
XLDRV_HANDLER(domain_managed_save_get_xml_desc);
XLDRV_HANDLER(domain_managed_save_define_xml);

/* migrate-source.c */
XLDRV_HANDLER(domain_migrate_begin3);
XLDRV_HANDLER(domain_migrate_begin3_params);
XLDRV_HANDLER(domain_core_dump);
XLDRV_HANDLER(domain_core_dump_with_format);
XLDRV_HANDLER(domain_migrate_perform3);
XLDRV_HANDLER(domain_migrate_perform3_params);
XLDRV_HANDLER(domain_migrate_confirm3);
XLDRV_HANDLER(domain_migrate_confirm3_params);
XLDRV_HANDLER(domain_migrate_set_max_downtime);
XLDRV_HANDLER(domain_migrate_get_max_downtime);
XLDRV_HANDLER(domain_migrate_set_max_speed);
XLDRV_HANDLER(domain_migrate_get_max_speed);

/* migrate-postcopy.c */
XLDRV_HANDLER(domain_migrate_start_post_copy);

/* migrate-dest.c */
XLDRV_HANDLER(domain_migrate_prepare3);
XLDRV_HANDLER(domain_migrate_prepare3_params);
XLDRV_HANDLER(domain_migrate_prepare_tunnel3_params);
XLDRV_HANDLER(domain_migrate_finish3);
XLDRV_HANDLER(domain_migrate_finish3_params);
/* snapshot-create.c, snapshot-revert.c, snapshot-delete.c */
XLDRV_HANDLER(domain_snapshot_create_xml);
XLDRV_HANDLER(domain_revert_to_snapshot);
XLDRV_HANDLER(domain_snapshot_delete);
/* snapshot-query.c */
XLDRV_HANDLER(domain_snapshot_num);
XLDRV_HANDLER(domain_snapshot_num_children);
XLDRV_HANDLER(domain_snapshot_list_names);
XLDRV_HANDLER(domain_snapshot_list_children_names);
XLDRV_HANDLER(domain_list_all_snapshots);
XLDRV_HANDLER(domain_snapshot_list_all_children);
XLDRV_HANDLER(domain_snapshot_lookup_by_name);
XLDRV_HANDLER(domain_has_current_snapshot);
XLDRV_HANDLER(domain_snapshot_current);
XLDRV_HANDLER(domain_snapshot_get_parent);
XLDRV_HANDLER(domain_snapshot_is_current);
XLDRV_HANDLER(domain_snapshot_has_metadata);
XLDRV_HANDLER(domain_snapshot_get_xml_desc);
/* blockjob-start.c, blockjob-query.c */
XLDRV_HANDLER(domain_block_pull);
XLDRV_HANDLER(domain_block_rebase);
XLDRV_HANDLER(domain_block_commit);
XLDRV_HANDLER(domain_block_copy);
XLDRV_HANDLER(domain_get_block_job_info);
XLDRV_HANDLER(domain_block_job_abort);
XLDRV_HANDLER(domain_block_job_set_speed);
/* backup.c */
XLDRV_HANDLER(domain_backup_begin);
XLDRV_HANDLER(domain_backup_get_xml_desc);
