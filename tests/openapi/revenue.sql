-- Revenue and lines of each product line.
SELECT productline, sum(sales) AS revenue, count(*) AS lines
FROM "tk-bitio/Sales"."sales_data_sample"
GROUP BY productline
