MERGE `project.dataset.s` T
USING (
  SELECT CAST(`id` AS BIGNUMERIC(38, 2)) AS `id`, `rate` AS `rate`, PARSE_JSON(`doc`, wide_number_mode=>'round') AS `doc`, CAST(`big` AS BIGNUMERIC) AS `big`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`
  FROM (
    SELECT * FROM `project.dataset._sdc_staging_s_1` WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY CAST(`id` AS BIGNUMERIC(38, 2)), TO_JSON_STRING(IF(`rate` = 0, 0, `rate`)), TO_JSON_STRING(PARSE_JSON(`doc`, wide_number_mode=>'round')), CAST(`big` AS BIGNUMERIC) ORDER BY _sdc_staged_sequence DESC) = 1
  )
) S
ON T.`id` = S.`id` AND TO_JSON_STRING(IF(T.`rate` = 0, 0, T.`rate`)) = TO_JSON_STRING(IF(S.`rate` = 0, 0, S.`rate`)) AND TO_JSON_STRING(T.`doc`) = TO_JSON_STRING(S.`doc`) AND T.`big` = S.`big` AND T.`id` BETWEEN BIGNUMERIC '7.50' AND BIGNUMERIC '7.50' AND T.`big` BETWEEN BIGNUMERIC '-1.5' AND BIGNUMERIC '-1.5'
WHEN MATCHED THEN UPDATE SET `_sdc_extracted_at` = S.`_sdc_extracted_at`, `_sdc_received_at` = S.`_sdc_received_at`, `_sdc_batched_at` = S.`_sdc_batched_at`, `_sdc_sequence` = S.`_sdc_sequence`, `_sdc_table_version` = S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `rate`, `doc`, `big`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`) VALUES (S.`id`, S.`rate`, S.`doc`, S.`big`, S.`_sdc_extracted_at`, S.`_sdc_received_at`, S.`_sdc_batched_at`, S.`_sdc_sequence`, S.`_sdc_table_version`);
