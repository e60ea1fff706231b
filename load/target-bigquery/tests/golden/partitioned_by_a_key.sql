MERGE `project.dataset.s` __T
USING (
  SELECT
    `day` AS `day`,
    `id` AS `id`,
    `_sdc_extracted_at` AS `_sdc_extracted_at`,
    `_sdc_received_at` AS `_sdc_received_at`,
    `_sdc_batched_at` AS `_sdc_batched_at`,
    `_sdc_staged_sequence` AS `_sdc_sequence`,
    `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `day`, `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) __S
ON __T.`day` = __S.`day`
  AND __T.`id` = __S.`id`
  AND (__T.`day` BETWEEN DATE '2024-01-31' AND DATE '2024-01-31' OR __T.`day` BETWEEN DATE '2024-02-02' AND DATE '2024-02-02')
  AND __T.`id` BETWEEN 7 AND 8
WHEN MATCHED THEN UPDATE SET
  `_sdc_extracted_at` = __S.`_sdc_extracted_at`,
  `_sdc_received_at` = __S.`_sdc_received_at`,
  `_sdc_batched_at` = __S.`_sdc_batched_at`,
  `_sdc_sequence` = __S.`_sdc_sequence`,
  `_sdc_table_version` = __S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`day`, `id`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`)
  VALUES (__S.`day`, __S.`id`, __S.`_sdc_extracted_at`, __S.`_sdc_received_at`, __S.`_sdc_batched_at`, __S.`_sdc_sequence`, __S.`_sdc_table_version`);
