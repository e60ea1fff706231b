MERGE `project.dataset.s` __T
USING (
  SELECT
    `id` AS `id`,
    `at` AS `at`,
    `_sdc_extracted_at` AS `_sdc_extracted_at`,
    `_sdc_received_at` AS `_sdc_received_at`,
    `_sdc_batched_at` AS `_sdc_batched_at`,
    `_sdc_staged_sequence` AS `_sdc_sequence`,
    `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) __S
ON __T.`id` = __S.`id`
  AND __T.`id` BETWEEN 7 AND 7
  AND (__T.`at` IS NULL OR __T.`at` IS NOT NULL)
WHEN MATCHED THEN UPDATE SET
  `at` = __S.`at`,
  `_sdc_extracted_at` = __S.`_sdc_extracted_at`,
  `_sdc_received_at` = __S.`_sdc_received_at`,
  `_sdc_batched_at` = __S.`_sdc_batched_at`,
  `_sdc_sequence` = __S.`_sdc_sequence`,
  `_sdc_table_version` = __S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `at`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`)
  VALUES (__S.`id`, __S.`at`, __S.`_sdc_extracted_at`, __S.`_sdc_received_at`, __S.`_sdc_batched_at`, __S.`_sdc_sequence`, __S.`_sdc_table_version`);
