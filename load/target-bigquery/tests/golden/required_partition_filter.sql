MERGE `project.dataset.s` T
USING (
  SELECT `id` AS `id`, `at` AS `at`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) S
ON T.`id` = S.`id` AND T.`id` BETWEEN 7 AND 7 AND (T.`at` IS NULL OR T.`at` IS NOT NULL)
WHEN MATCHED THEN UPDATE SET `at` = S.`at`, `_sdc_extracted_at` = S.`_sdc_extracted_at`, `_sdc_received_at` = S.`_sdc_received_at`, `_sdc_batched_at` = S.`_sdc_batched_at`, `_sdc_sequence` = S.`_sdc_sequence`, `_sdc_table_version` = S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `at`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`) VALUES (S.`id`, S.`at`, S.`_sdc_extracted_at`, S.`_sdc_received_at`, S.`_sdc_batched_at`, S.`_sdc_sequence`, S.`_sdc_table_version`);
