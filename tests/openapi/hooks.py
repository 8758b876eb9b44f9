"""Workarounds and formats for schemathesis."""

import datetime
import functools

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi.adapter import responses

# Version 4.32.5 rewrites `prefixItems` of a response for an older draft, and then rejects it by the meta-schema of
# the newer one. https://github.com/schemathesis/schemathesis/issues/3842 is the same for requests.
responses.to_json_schema = functools.partial(responses.to_json_schema, convert_prefix_items=False)

# Formats of OpenAPI's registry, https://spec.openapis.org/registry/format/
schemathesis.openapi.format("time-local", st.times().map(lambda time: time.isoformat()))
schemathesis.openapi.format("date-time-local", st.datetimes().map(lambda time: time.isoformat()))

# RFC 3339 allows offsets up to 23:59; Postgres accepts up to 15:59:59.
offsets = st.integers(-959, 959).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
schemathesis.openapi.format("date-time", st.datetimes(timezones=offsets).map(lambda time: time.isoformat()))
