INSERT INTO `project.dataset.s` (`id`, `doc`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`)
SELECT
  `id`,
  PARSE_JSON(`doc`, wide_number_mode=>'round'),
  `_sdc_extracted_at`,
  `_sdc_received_at`,
  `_sdc_batched_at`,
  `_sdc_staged_sequence`,
  `_sdc_table_version`
FROM `project.dataset._sdc_staging_s_1`;
