MERGE `project.dataset.s` __T
USING (
  SELECT
    CAST(`id` AS BIGNUMERIC(38, 2)) AS `id`,
    `rate` AS `rate`,
    PARSE_JSON(`doc`, wide_number_mode=>'round') AS `doc`,
    CAST(`big` AS BIGNUMERIC) AS `big`,
    `_sdc_extracted_at` AS `_sdc_extracted_at`,
    `_sdc_received_at` AS `_sdc_received_at`,
    `_sdc_batched_at` AS `_sdc_batched_at`,
    `_sdc_staged_sequence` AS `_sdc_sequence`,
    `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY CAST(`id` AS BIGNUMERIC(38, 2)), TO_JSON_STRING(IF(`rate` = 0, 0, `rate`)), TO_JSON_STRING(PARSE_JSON(`doc`, wide_number_mode=>'round')), CAST(`big` AS BIGNUMERIC) ORDER BY _sdc_staged_sequence DESC) = 1
  )
) __S
ON __T.`id` = __S.`id`
  AND TO_JSON_STRING(IF(__T.`rate` = 0, 0, __T.`rate`)) = TO_JSON_STRING(IF(__S.`rate` = 0, 0, __S.`rate`))
  AND TO_JSON_STRING(__T.`doc`) = TO_JSON_STRING(__S.`doc`)
  AND __T.`big` = __S.`big`
  AND __T.`id` BETWEEN BIGNUMERIC '7.50' AND BIGNUMERIC '7.50'
  AND __T.`big` BETWEEN BIGNUMERIC '-1.5' AND BIGNUMERIC '-1.5'
WHEN MATCHED THEN UPDATE SET
  `_sdc_extracted_at` = __S.`_sdc_extracted_at`,
  `_sdc_received_at` = __S.`_sdc_received_at`,
  `_sdc_batched_at` = __S.`_sdc_batched_at`,
  `_sdc_sequence` = __S.`_sdc_sequence`,
  `_sdc_table_version` = __S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `rate`, `doc`, `big`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`)
  VALUES (__S.`id`, __S.`rate`, __S.`doc`, __S.`big`, __S.`_sdc_extracted_at`, __S.`_sdc_received_at`, __S.`_sdc_batched_at`, __S.`_sdc_sequence`, __S.`_sdc_table_version`);
