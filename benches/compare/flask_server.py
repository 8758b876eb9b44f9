"""The server of the blog post "REST API for Your Repository", for gunicorn: a query on every request.

It sends the same bytes as Larder, with the headers that HTTP caches need. CONNECTION is "open" for persistent
connections to Postgres, or "new" for one per request.
"""

import json
import os
import threading

import psycopg2
import psycopg2.extras
from flask import Flask, Response, request
from flask_restful import Api, Resource

URL = os.environ["DATABASE_URL"]
SQL = json.loads(os.environ["STATEMENTS"])
KEEPS_OPEN = os.environ["CONNECTION"] == "open"

app = Flask(__name__)
api = Api(app)
own = threading.local()


def connect():
    connection = psycopg2.connect(URL)
    connection.autocommit = True
    return connection


def query(sql: str, factory) -> list:
    if not KEEPS_OPEN:
        own.connection = connect()
    elif not hasattr(own, "connection"):
        own.connection = connect()
    try:
        with own.connection.cursor(cursor_factory=factory) as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        if not KEEPS_OPEN:
            own.connection.close()


@api.representation("application/json")
def compact(data, code, headers=None):
    """JSON as Larder writes it, so that every server sends the same bytes."""
    answer = Response(json.dumps(data, separators=(",", ":"), ensure_ascii=False), code)
    answer.mimetype = "application/json"
    answer.headers.extend(headers or {})
    answer.cache_control.public = True
    answer.cache_control.max_age = 3600
    answer.add_etag()
    return answer.make_conditional(request)


class Count(Resource):
    def get(self):
        return list(query(SQL["/count"], None)[0])


class Lines(Resource):
    def get(self, size):
        return query(SQL[f"/lines/{size}"], psycopg2.extras.RealDictCursor)


api.add_resource(Count, "/count")
api.add_resource(Lines, "/lines/<size>")
