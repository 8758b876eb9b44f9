SELECT :order::int
