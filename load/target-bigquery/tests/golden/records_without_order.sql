MERGE `project.dataset.s` __T
USING (
  WITH __staged AS (
    SELECT *,
      `id` AS __key0,
      `updated_at` AS __order,
      (FALSE) AS __deleted,
      SUM(IF(`updated_at` IS NULL, 1, 0)) OVER (PARTITION BY `id` ORDER BY _sdc_staged_sequence ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS __segment
    FROM `project.dataset._sdc_staging_s_1`
  ), __fresh AS (
    SELECT * FROM __staged WHERE TRUE
    QUALIFY __order IS NULL OR __order >= MAX(__order) OVER (PARTITION BY __key0, __segment ORDER BY _sdc_staged_sequence ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
  ), __marked AS (
    SELECT *, MAX(IF(__deleted, _sdc_staged_sequence, NULL)) OVER (PARTITION BY __key0) AS __last_delete
    FROM __fresh
  ), __picked AS (
    SELECT
      ANY_VALUE(STRUCT(`id` AS `id`, `updated_at` AS `updated_at`, `_sdc_extracted_at` AS `_sdc_extracted_at`, `_sdc_received_at` AS `_sdc_received_at`, `_sdc_batched_at` AS `_sdc_batched_at`, `_sdc_staged_sequence` AS `_sdc_sequence`, `_sdc_table_version` AS `_sdc_table_version`, __order AS __order, __segment AS __segment, __deleted AS __deleted) HAVING MAX _sdc_staged_sequence) AS __newest,
      MAX(_sdc_staged_sequence) IS NOT NULL AS __newest_found,
      ANY_VALUE(STRUCT(__order AS __order, __segment AS __segment, __deleted AS __deleted) HAVING MAX IF(__deleted, _sdc_staged_sequence, NULL)) AS __erased,
      MAX(IF(__deleted, _sdc_staged_sequence, NULL)) IS NOT NULL AS __erased_found
    FROM __marked
    GROUP BY __key0
  )
  SELECT
    __newest.`id` AS `id`,
    __newest.`updated_at` AS `updated_at`,
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
    __erased.__segment > 0 OR __erased.__order IS NULL AS __erased_free
  FROM __picked
) __S
ON __T.`id` = __S.`id`
  AND __T.`id` BETWEEN 7 AND 7
WHEN MATCHED AND (__S.__newest_free OR __T.`updated_at` IS NULL OR __S.__newest_order >= __T.`updated_at` OR __S.`_sdc_table_version` > IFNULL(__T.`_sdc_table_version`, -1)) THEN UPDATE SET
  `updated_at` = __S.`updated_at`,
  `_sdc_extracted_at` = __S.`_sdc_extracted_at`,
  `_sdc_received_at` = __S.`_sdc_received_at`,
  `_sdc_batched_at` = __S.`_sdc_batched_at`,
  `_sdc_sequence` = __S.`_sdc_sequence`,
  `_sdc_table_version` = __S.`_sdc_table_version`
WHEN NOT MATCHED THEN INSERT (`id`, `updated_at`, `_sdc_extracted_at`, `_sdc_received_at`, `_sdc_batched_at`, `_sdc_sequence`, `_sdc_table_version`)
  VALUES (__S.`id`, __S.`updated_at`, __S.`_sdc_extracted_at`, __S.`_sdc_received_at`, __S.`_sdc_batched_at`, __S.`_sdc_sequence`, __S.`_sdc_table_version`);
