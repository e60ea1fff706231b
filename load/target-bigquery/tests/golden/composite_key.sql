MERGE `project.dataset.s` T
USING (
  SELECT `tenant` AS `tenant`, `id` AS `id`, `name` AS `name`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `tenant`, `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) S
ON T.`tenant` = S.`tenant` AND T.`id` = S.`id` AND T.`tenant` BETWEEN 'acme' AND 'zoì' AND T.`id` BETWEEN 3 AND 9999
WHEN MATCHED THEN UPDATE SET `name` = S.`name`, `_sdc_extracted_at` = S.`_sdc_extracted_at`, `_sdc_received_at` = S.`_sdc_received_at`, `_sdc_batched_at` = S.`_sdc_batched_at`, `_sdc_sequence` = S.`_sdc_sequence`, `_sdc_table_version` = S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`tenant`, `id`, `name`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`) VALUES (S.`tenant`, S.`id`, S.`name`, S.`_sdc_extracted_at`, S.`_sdc_received_at`, S.`_sdc_batched_at`, S.`_sdc_sequence`, S.`_sdc_table_version`);
