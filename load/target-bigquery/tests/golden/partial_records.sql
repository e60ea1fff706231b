MERGE `project.dataset.s` __T
USING (
  WITH __staged AS (
    SELECT *,
      `id` AS __key0,
      NULL AS __order,
      (FALSE) AS __deleted,
      0 AS __segment
    FROM `project.dataset._sdc_staging_s_1`
  ), __fresh AS (
    SELECT * FROM __staged
  ), __marked AS (
    SELECT *, MAX(IF(__deleted, _sdc_staged_sequence, NULL)) OVER (PARTITION BY __key0) AS __last_delete
    FROM __fresh
  ), __picked AS (
    SELECT
      ANY_VALUE(STRUCT(`id` AS `id`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`, __order AS __order, __segment AS __segment, __deleted AS __deleted) HAVING MAX _sdc_staged_sequence) AS __newest,
      MAX(_sdc_staged_sequence) IS NOT NULL AS __newest_found,
      ANY_VALUE(STRUCT(__order AS __order, __segment AS __segment, __deleted AS __deleted) HAVING MAX IF(__deleted, _sdc_staged_sequence, NULL)) AS __erased,
      MAX(IF(__deleted, _sdc_staged_sequence, NULL)) IS NOT NULL AS __erased_found,
      ANY_VALUE(STRUCT(`a` AS `a`, __order AS __order, __segment AS __segment, __deleted AS __deleted) HAVING MAX IF(NOT __deleted AND SUBSTR(_sdc_staged_present, 2, 1) = '1', _sdc_staged_sequence, NULL)) AS __group0,
      MAX(IF(NOT __deleted AND SUBSTR(_sdc_staged_present, 2, 1) = '1', _sdc_staged_sequence, NULL)) IS NOT NULL AS __group0_found,
      ANY_VALUE(STRUCT(`b` AS `b`, __order AS __order, __segment AS __segment, __deleted AS __deleted) HAVING MAX IF(NOT __deleted AND SUBSTR(_sdc_staged_present, 3, 1) = '1', _sdc_staged_sequence, NULL)) AS __group1,
      MAX(IF(NOT __deleted AND SUBSTR(_sdc_staged_present, 3, 1) = '1', _sdc_staged_sequence, NULL)) IS NOT NULL AS __group1_found
    FROM __marked
    GROUP BY __key0
  )
  SELECT
    __newest.`id` AS `id`,
    __newest.`_sdc_extracted_at` AS `_sdc_extracted_at`,
    __newest.`_sdc_received_at` AS `_sdc_received_at`,
    __newest.`_sdc_batched_at` AS `_sdc_batched_at`,
    __newest.`_sdc_sequence` AS `_sdc_sequence`,
    __newest.`_sdc_table_version` AS `_sdc_table_version`,
    __newest.__deleted AS __deleted,
    __newest_found AS __newest_found,
    __newest.__order AS __newest_order,
    __newest.__segment > 0 OR __newest.__order IS NULL AS __newest_free,
    __erased_found AS __erased_found,
    __erased.__order AS __erased_order,
    __erased.__segment > 0 OR __erased.__order IS NULL AS __erased_free,
    IF(__group0_found, __group0.`a`, NULL) AS `a`,
    __group0_found AS __group0_found,
    __group0.__order AS __group0_order,
    __group0.__segment > 0 OR __group0.__order IS NULL AS __group0_free,
    IF(__group1_found, __group1.`b`, NULL) AS `b`,
    __group1_found AS __group1_found,
    __group1.__order AS __group1_order,
    __group1.__segment > 0 OR __group1.__order IS NULL AS __group1_free
  FROM __picked
) __S
ON __T.`id` = __S.`id`
  AND __T.`id` BETWEEN 7 AND 7
WHEN MATCHED AND TRUE THEN UPDATE SET
  `_sdc_extracted_at` = __S.`_sdc_extracted_at`,
  `_sdc_received_at` = __S.`_sdc_received_at`,
  `_sdc_batched_at` = __S.`_sdc_batched_at`,
  `_sdc_sequence` = __S.`_sdc_sequence`,
  `_sdc_table_version` = __S.`_sdc_table_version`,
  `a` = IF(__S.__group0_found AND TRUE, __S.`a`, __T.`a`),
  `b` = IF(__S.__group1_found AND TRUE, __S.`b`, __T.`b`)
WHEN NOT MATCHED THEN INSERT (`id`, `a`, `b`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`)
  VALUES (__S.`id`, __S.`a`, __S.`b`, __S.`_sdc_extracted_at`, __S.`_sdc_received_at`, __S.`_sdc_batched_at`, __S.`_sdc_sequence`, __S.`_sdc_table_version`);
