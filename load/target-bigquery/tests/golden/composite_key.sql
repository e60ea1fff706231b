MERGE `project.dataset.s` __T
USING (
  SELECT
    `tenant` AS `tenant`,
    `id` AS `id`,
    `name` AS `name`,
    `_sdc_extracted_at` AS `_sdc_extracted_at`,
    `_sdc_received_at` AS `_sdc_received_at`,
    `_sdc_batched_at` AS `_sdc_batched_at`,
    `_sdc_staged_sequence` AS `_sdc_sequence`,
    `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY `tenant`, `id` ORDER BY _sdc_staged_sequence DESC) = 1
  )
) __S
ON __T.`tenant` = __S.`tenant`
  AND __T.`id` = __S.`id`
  AND (__T.`tenant` BETWEEN 'acme' AND 'acme' OR __T.`tenant` BETWEEN 'it\'s' AND 'it\'s' OR __T.`tenant` BETWEEN 'zoë' AND 'zoì')
  AND __T.`id` BETWEEN 3 AND 9999
WHEN MATCHED THEN UPDATE SET
  `name` = __S.`name`,
  `_sdc_extracted_at` = __S.`_sdc_extracted_at`,
  `_sdc_received_at` = __S.`_sdc_received_at`,
  `_sdc_batched_at` = __S.`_sdc_batched_at`,
  `_sdc_sequence` = __S.`_sdc_sequence`,
  `_sdc_table_version` = __S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`tenant`, `id`, `name`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`)
  VALUES (__S.`tenant`, __S.`id`, __S.`name`, __S.`_sdc_extracted_at`, __S.`_sdc_received_at`, __S.`_sdc_batched_at`, __S.`_sdc_sequence`, __S.`_sdc_table_version`);
