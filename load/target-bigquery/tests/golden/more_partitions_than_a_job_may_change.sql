MERGE `project.dataset.s` T
USING (
SELECT * FROM (
  SELECT `id` AS `id`, `n` AS `n`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) WHERE (`n` < 20000 OR `n` IS NULL)
) S
ON T.`id` = S.`id` AND T.`id` BETWEEN 0 AND 4499
WHEN MATCHED THEN UPDATE SET `n` = S.`n`, `_sdc_extracted_at` = S.`_sdc_extracted_at`, `_sdc_received_at` = S.`_sdc_received_at`, `_sdc_batched_at` = S.`_sdc_batched_at`, `_sdc_sequence` = S.`_sdc_sequence`, `_sdc_table_version` = S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `n`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`) VALUES (S.`id`, S.`n`, S.`_sdc_extracted_at`, S.`_sdc_received_at`, S.`_sdc_batched_at`, S.`_sdc_sequence`, S.`_sdc_table_version`);
MERGE `project.dataset.s` T
USING (
SELECT * FROM (
  SELECT `id` AS `id`, `n` AS `n`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) WHERE `n` >= 20000 AND `n` < 40000
) S
ON T.`id` = S.`id` AND T.`id` BETWEEN 0 AND 4499
WHEN MATCHED THEN UPDATE SET `n` = S.`n`, `_sdc_extracted_at` = S.`_sdc_extracted_at`, `_sdc_received_at` = S.`_sdc_received_at`, `_sdc_batched_at` = S.`_sdc_batched_at`, `_sdc_sequence` = S.`_sdc_sequence`, `_sdc_table_version` = S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `n`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`) VALUES (S.`id`, S.`n`, S.`_sdc_extracted_at`, S.`_sdc_received_at`, S.`_sdc_batched_at`, S.`_sdc_sequence`, S.`_sdc_table_version`);
MERGE `project.dataset.s` T
USING (
SELECT * FROM (
  SELECT `id` AS `id`, `n` AS `n`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) WHERE `n` >= 40000
) S
ON T.`id` = S.`id` AND T.`id` BETWEEN 0 AND 4499
WHEN MATCHED THEN UPDATE SET `n` = S.`n`, `_sdc_extracted_at` = S.`_sdc_extracted_at`, `_sdc_received_at` = S.`_sdc_received_at`, `_sdc_batched_at` = S.`_sdc_batched_at`, `_sdc_sequence` = S.`_sdc_sequence`, `_sdc_table_version` = S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `n`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`) VALUES (S.`id`, S.`n`, S.`_sdc_extracted_at`, S.`_sdc_received_at`, S.`_sdc_batched_at`, S.`_sdc_sequence`, S.`_sdc_table_version`);
