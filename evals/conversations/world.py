#!/usr/bin/env python3
"""The services whose changes are planned in these conversations: what each shows on its page of metrics.

    world.py write             writes metrics.prom of every case: a page whose values are rates and levels
    world.py serve CASE        serves that page on loopback as time goes on: /old-0 ... /old-3 and /new-0, each /metrics

In metrics.prom a counter's value is how much it rises in a second over the whole service, a gauge's is its mean, and a
histogram's buckets rise like counters. `serve` makes the pages of four pods of the old version and one of the new out of
it, with noise and a slow wave of load, so that `tollgate plan -c` can be tried by hand. Recording and replaying do the
same in Rust (tests/conversations/world.rs), two hours at once. Standard library only; loopback only.
"""
import argparse
import http.server
import math
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).parent
WEB = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
FAST = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5]
LONG = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0]


class Page:
    """One service's page of rates."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def family(self, kind: str, name: str, text: str) -> None:
        self.lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]

    def series(self, name: str, labels: dict, value: float) -> None:
        inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
        self.lines.append(f"{name}{{{inside}}} {value:.6g}" if inside else f"{name} {value:.6g}")

    def counter(self, name: str, text: str, by: dict[tuple, float] | float, labels: tuple = ()) -> None:
        self.family("counter", name, text)
        for values, rate in by.items() if isinstance(by, dict) else [((), by)]:
            values = values if isinstance(values, tuple) else (values,)
            self.series(name, dict(zip(labels, values)), rate)

    def gauge(self, name: str, text: str, by: dict | float, labels: tuple = ()) -> None:
        self.family("gauge", name, text)
        for values, level in by.items() if isinstance(by, dict) else [((), by)]:
            values = values if isinstance(values, tuple) else (values,)
            self.series(name, dict(zip(labels, values)), level)

    def histogram(self, name: str, text: str, by: dict, labels: tuple = (), bounds: list[float] = WEB) -> None:
        """`by`: label values to (rate, median, 99th percentile)."""
        self.family("histogram", name, text)
        for values, (rate, median, high) in by.items():
            values = values if isinstance(values, tuple) else (values,)
            own = dict(zip(labels, values))
            steep = math.log(99) / math.log(high / median)
            for bound in bounds:
                share = 1 / (1 + (median / bound) ** steep)
                self.series(f"{name}_bucket", own | {"le": f"{bound:g}"}, rate * share)
            self.series(f"{name}_bucket", own | {"le": "+Inf"}, rate)
            self.series(f"{name}_sum", own, rate * median * 1.4)
            self.series(f"{name}_count", own, rate)

    # What every service of a kind shows.

    def http(self, routes: dict[tuple[str, str], tuple[float, float, float, float]], name: str = "http") -> None:
        """`routes`: (method, route) to (rate, share of 5xx, median, 99th percentile)."""
        by: dict[tuple, float] = {}
        for (method, route), (rate, bad, _, _) in routes.items():
            by[(method, route, "200" if method != "POST" else "201")] = rate * (0.985 - bad)
            by[(method, route, "400")] = rate * 0.008
            by[(method, route, "404")] = rate * 0.007
            by[(method, route, "500")] = rate * bad * 0.7
            by[(method, route, "503")] = rate * bad * 0.3
        self.counter(f"{name}_requests_total", "Requests served.", by, ("method", "route", "code"))
        times = {(method, route): (rate, mid, high) for (method, route), (rate, _, mid, high) in routes.items()}
        self.histogram(f"{name}_request_duration_seconds", "How long requests took.", times, ("method", "route"))
        total = sum(rate for rate, *_ in routes.values())
        self.gauge(f"{name}_requests_in_flight", "Requests being served.", total * 0.05)
        self.counter(f"{name}_request_bytes_total", "Bytes received.", total * 700)
        self.counter(f"{name}_response_bytes_total", "Bytes sent.", total * 5200)

    def process(self) -> None:
        self.counter("process_cpu_seconds_total", "CPU used.", 1.9)
        self.gauge("process_resident_memory_bytes", "Resident memory.", 4.1e8)
        self.gauge("process_virtual_memory_bytes", "Virtual memory.", 2.2e9)
        self.gauge("process_open_fds", "Open file descriptors.", 212)
        self.gauge("process_max_fds", "Most open file descriptors.", 65536)
        self.gauge("process_threads", "Threads.", 34)

    def go(self) -> None:
        self.process()
        self.gauge("go_goroutines", "Goroutines.", 310)
        self.gauge("go_threads", "Threads of the runtime.", 22)
        self.gauge("go_memstats_alloc_bytes", "Bytes in use.", 8.8e7)
        self.counter("go_memstats_alloc_bytes_total", "Bytes allocated.", 3.4e7)
        self.counter("go_memstats_mallocs_total", "Allocations.", 4.1e5)
        self.counter("go_memstats_frees_total", "Frees.", 4.1e5)
        self.gauge("go_memstats_heap_objects", "Objects in the heap.", 5.2e5)
        self.gauge("go_memstats_heap_inuse_bytes", "Heap in use.", 1.1e8)
        self.gauge("go_memstats_heap_idle_bytes", "Heap idle.", 5.1e7)
        self.gauge("go_memstats_next_gc_bytes", "Heap size of the next collection.", 1.6e8)
        self.gauge("go_memstats_stack_inuse_bytes", "Stacks in use.", 3.1e6)
        self.counter("go_gc_cycles_total", "Collections.", 0.9)
        self.histogram("go_gc_pause_seconds", "Pauses for collection.", {(): (0.9, 0.0003, 0.002)}, (), FAST)

    def python(self) -> None:
        self.process()
        self.counter("python_gc_collections_total", "Collections.", {"0": 3.1, "1": 0.3, "2": 0.02}, ("generation",))
        self.counter("python_gc_objects_collected_total", "Objects collected.", {"0": 900, "1": 80, "2": 30}, ("generation",))
        self.gauge("uvicorn_workers", "Worker processes.", 8)
        self.gauge("asyncio_tasks", "Tasks of the loop.", 64)
        self.histogram("asyncio_loop_lag_seconds", "Lag of the loop.", {(): (8, 0.0012, 0.03)}, (), FAST)
        self.gauge("python_thread_pool_queue", "Work that waits for a thread.", 1.4)

    def node(self) -> None:
        self.process()
        self.histogram("nodejs_eventloop_lag_seconds", "Lag of the loop.", {(): (10, 0.0015, 0.02)}, (), FAST)
        self.gauge("nodejs_heap_size_used_bytes", "Heap used.", 1.4e8)
        self.gauge("nodejs_heap_size_total_bytes", "Heap.", 2.2e8)
        self.gauge("nodejs_external_memory_bytes", "External memory.", 1.2e7)
        self.gauge("nodejs_active_handles", "Handles.", {"Socket": 180, "Server": 2, "Timer": 41}, ("type",))
        self.gauge("nodejs_active_requests", "Requests of the runtime.", 6)
        self.counter("nodejs_gc_runs_total", "Collections.", {"minor": 2.2, "major": 0.05, "incremental": 0.1}, ("kind",))
        self.histogram("nodejs_gc_duration_seconds", "Collections.", {"minor": (2.2, 0.001, 0.006), "major": (0.05, 0.02, 0.09)}, ("kind",), FAST)

    def jvm(self) -> None:
        self.process()
        self.gauge("jvm_memory_used_bytes", "Memory used.", {"heap": 6.1e8, "nonheap": 1.8e8}, ("area",))
        self.gauge("jvm_memory_max_bytes", "Most memory.", {"heap": 2.0e9, "nonheap": 7e8}, ("area",))
        self.gauge("jvm_threads_live", "Threads.", 96)
        self.gauge("jvm_threads_daemon", "Daemon threads.", 71)
        self.gauge("jvm_threads_states", "Threads by state.", {"runnable": 18, "waiting": 51, "timed-waiting": 26, "blocked": 0.6}, ("state",))
        self.counter("jvm_gc_pause_seconds_count", "Collections.", {"young": 0.4, "old": 0.004}, ("generation",))
        self.counter("jvm_gc_memory_allocated_bytes_total", "Bytes allocated.", 6.5e7)
        self.counter("jvm_gc_memory_promoted_bytes_total", "Bytes promoted.", 4.4e5)
        self.gauge("jvm_classes_loaded", "Classes.", 18422)
        self.counter("logback_events_total", "Lines of the log.", {"error": 0.04, "warn": 0.8, "info": 35}, ("level",))
        self.gauge("tomcat_threads_busy", "Busy threads.", 11)
        self.gauge("tomcat_threads_config_max", "Most threads.", 200)

    def tokio(self) -> None:
        self.process()
        self.gauge("tokio_workers", "Workers.", 8)
        self.gauge("tokio_alive_tasks", "Tasks.", 480)
        self.gauge("tokio_global_queue_depth", "Tasks that wait.", 2.1)
        self.counter("tokio_worker_polls_total", "Polls.", 22000)
        self.counter("tokio_worker_steals_total", "Steals.", 310)
        self.counter("tokio_worker_busy_seconds_total", "Time busy.", 1.7)

    def database(self, pool: str, queries: dict[str, tuple[float, float, float]], errors: float = 0.02) -> None:
        """`queries`: operation to (rate, median, 99th percentile)."""
        self.histogram("db_query_duration_seconds", "How long queries took.", queries, ("operation",), FAST + [1.0, 2.5, 5.0])
        total = sum(rate for rate, *_ in queries.values())
        self.counter("db_queries_total", "Queries.", {(name, outcome): rate * share for name, (rate, *_) in queries.items()
                                                      for outcome, share in (("ok", 0.9997), ("error", 0.0003))}, ("operation", "outcome"))
        self.counter("db_errors_total", "Failed queries by cause.", {"timeout": errors, "deadlock": errors * 0.15, "connection": errors * 0.3,
                                                                     "constraint": errors * 2}, ("cause",))
        self.gauge("db_pool_connections", "Connections of the pool.", {(pool, "in_use"): 14, (pool, "idle"): 26}, ("pool", "state"))
        self.gauge("db_pool_waiting", "Who waits for a connection.", {pool: 0.4}, ("pool",))
        self.histogram("db_pool_wait_seconds", "Wait for a connection.", {pool: (total, 0.0004, 0.012)}, ("pool",), FAST + [1.0, 5.0])
        self.counter("db_pool_timeouts_total", "Waits that were given up.", {pool: 0.004}, ("pool",))
        self.counter("db_rows_total", "Rows.", {"read": total * 9, "written": total * 0.4}, ("direction",))
        self.counter("db_transactions_total", "Transactions.", {"commit": total * 0.3, "rollback": total * 0.002}, ("end",))

    def upstream(self, calls: dict[str, tuple[float, float, float, float]], name: str = "upstream") -> None:
        """`calls`: dependency to (rate, share that fails, median, 99th percentile)."""
        by = {}
        for to, (rate, bad, _, _) in calls.items():
            by |= {(to, "ok"): rate * (1 - bad), (to, "error"): rate * bad * 0.5, (to, "timeout"): rate * bad * 0.5}
        self.counter(f"{name}_calls_total", "Calls to other services.", by, ("to", "result"))
        self.histogram(f"{name}_call_duration_seconds", "How long calls took.",
                       {to: (rate, mid, high) for to, (rate, _, mid, high) in calls.items()}, ("to",))
        self.counter(f"{name}_retries_total", "Calls made again.", {to: rate * bad * 0.9 for to, (rate, bad, *_) in calls.items()}, ("to",))
        self.gauge(f"{name}_connections_open", "Open connections.", {to: rate * 0.2 for to, (rate, *_) in calls.items()}, ("to",))
        self.counter(f"{name}_connections_made_total", "Connections made.", {to: rate * 0.01 for to, (rate, *_) in calls.items()}, ("to",))
        self.gauge(f"{name}_circuit_open", "Whether calls are cut off.", {to: 0.0 for to in calls}, ("to",))

    def logs(self, lines: float = 40) -> None:
        self.counter("log_lines_total", "Lines of the log.", {"debug": 0.0, "info": lines, "warning": lines * 0.02, "error": lines * 0.002}, ("level",))


def cache() -> Page:
    page = Page()
    page.http({("GET", "/v1/products/{id}"): (165, 0.0011, 0.021, 0.14), ("GET", "/v1/products"): (48, 0.0015, 0.055, 0.41),
               ("GET", "/v1/categories"): (22, 0.0006, 0.012, 0.07), ("PUT", "/v1/products/{id}"): (1.6, 0.003, 0.043, 0.22),
               ("GET", "/v1/prices/{id}"): (71, 0.0009, 0.014, 0.09)})
    page.database("catalog", {"product_by_id": (170, 0.006, 0.05), "products_list": (48, 0.03, 0.3), "categories": (22, 0.004, 0.02),
                              "price_by_id": (71, 0.005, 0.04), "product_update": (1.6, 0.02, 0.1)})
    page.counter("redis_commands_total", "Commands sent.", {("get", "ok"): 74, ("get", "error"): 0.01, ("set", "ok"): 19, ("set", "error"): 0.003,
                                                            ("del", "ok"): 0.9, ("del", "error"): 0.0004}, ("command", "result"))
    page.histogram("redis_command_duration_seconds", "How long commands took.", {"get": (74, 0.0006, 0.004), "set": (19, 0.0008, 0.005)}, ("command",), FAST)
    page.gauge("redis_pool_connections", "Connections.", {"in_use": 3.1, "idle": 12}, ("state",))
    page.counter("redis_pool_timeouts_total", "Waits for a connection that were given up.", 0.002)
    page.counter("cache_requests_total", "Lookups of caches.", {("prices", "hit"): 58, ("prices", "miss"): 13, ("categories", "hit"): 21.4,
                                                               ("categories", "miss"): 0.6}, ("cache", "result"))
    page.counter("cache_evictions_total", "Entries that made room.", {"prices": 0.7, "categories": 0.0}, ("cache",))
    page.gauge("cache_entries", "Entries.", {"prices": 48211, "categories": 312}, ("cache",))
    page.counter("product_not_found_total", "Products that there are not.", 1.3)
    page.counter("product_events_published_total", "Product events sent.", {"updated": 1.6, "deleted": 0.02}, ("kind",))
    page.logs()
    page.go()
    return page


def auth() -> Page:
    page = Page()
    page.http({("POST", "/oauth/token"): (38, 0.0012, 0.085, 0.4), ("POST", "/login"): (14, 0.0016, 0.21, 0.7), ("POST", "/logout"): (3.2, 0.0004, 0.012, 0.06),
               ("GET", "/userinfo"): (96, 0.0007, 0.011, 0.06), ("POST", "/introspect"): (210, 0.0005, 0.006, 0.03), ("GET", "/.well-known/jwks.json"): (4.1, 0.0001, 0.003, 0.01)})
    page.counter("login_attempts_total", "Attempts to sign in.", {("password", "success"): 11.2, ("password", "wrong_password"): 1.7, ("password", "locked"): 0.11,
                                                                 ("password", "error"): 0.02, ("sso", "success"): 1.4, ("sso", "error"): 0.03}, ("method", "result"))
    page.counter("token_issued_total", "Tokens issued.", {"authorization_code": 12.6, "refresh_token": 24.1, "client_credentials": 1.3}, ("grant_type",))
    page.counter("token_refused_total", "Token requests refused.", {"invalid_grant": 0.6, "invalid_client": 0.05, "expired": 0.3}, ("reason",))
    page.counter("token_validations_total", "Tokens looked at.", {"valid": 301, "expired": 4.4, "bad_signature": 0.03, "unknown_key": 0.01, "wrong_audience": 0.06}, ("result",))
    page.histogram("token_validation_seconds", "How long a look at a token took.", {(): (306, 0.0007, 0.004)}, (), FAST)
    page.counter("jwks_fetches_total", "Fetches of keys.", {"ok": 0.07, "error": 0.0006}, ("result",))
    page.gauge("jwks_keys", "Keys that are known.", 3)
    page.gauge("sessions_active", "Sessions.", 184000)
    page.counter("sessions_revoked_total", "Sessions ended.", {"logout": 3.1, "expired": 8.8, "admin": 0.003}, ("cause",))
    page.counter("mfa_challenges_total", "Second factors asked for.", {"passed": 2.6, "failed": 0.2, "abandoned": 0.3}, ("result",))
    page.counter("password_hash_total", "Hashes of passwords.", 12.9)
    page.database("identity", {"session_by_id": (306, 0.002, 0.015), "user_by_email": (15, 0.004, 0.03), "insert_session": (14, 0.006, 0.04), "revoke": (3.1, 0.005, 0.03)})
    page.logs()
    page.python()
    return page


def sql_migration() -> Page:
    page = Page()
    page.http({("POST", "/orders"): (19, 0.002, 0.11, 0.6), ("GET", "/orders/{id}"): (64, 0.0008, 0.018, 0.12), ("GET", "/customers/{id}/orders"): (27, 0.0014, 0.06, 0.5),
               ("POST", "/orders/{id}/cancel"): (0.9, 0.003, 0.07, 0.3), ("POST", "/webhooks/payment"): (17, 0.0009, 0.03, 0.2)})
    page.database("orders", {"insert_order": (19, 0.011, 0.08), "order_by_id": (66, 0.003, 0.02), "orders_by_customer": (27, 0.02, 0.22), "update_status": (18, 0.006, 0.05),
                             "insert_event": (52, 0.003, 0.02)}, 0.03)
    page.counter("db_lock_waits_total", "Waits for a lock.", {"orders": 0.4, "order_events": 0.1, "customers": 0.02}, ("table",))
    page.histogram("db_lock_wait_seconds", "How long a lock was waited for.", {"orders": (0.4, 0.004, 0.2), "order_events": (0.1, 0.002, 0.05)}, ("table",), FAST + [1.0, 5.0])
    page.counter("db_migrations_total", "Migrations run.", {"ok": 0.0, "error": 0.0}, ("result",))
    page.gauge("db_replication_lag_seconds", "Lag of the replica.", 0.35)
    page.gauge("db_table_dead_rows", "Dead rows.", {"orders": 21000, "order_events": 60200}, ("table",))
    page.counter("orders_placed_total", "Orders placed.", {"web": 12, "app": 5.8, "partner": 1.1}, ("channel",))
    page.counter("orders_rejected_total", "Orders refused.", {"invalid_address": 0.08, "out_of_stock": 0.3, "payment": 0.4}, ("reason",))
    page.counter("order_state_changes_total", "Changes of state.", {"paid": 17, "shipped": 15, "cancelled": 0.9, "returned": 0.7}, ("to",))
    page.counter("outbox_messages_total", "Messages sent from the outbox.", {"sent": 52, "failed": 0.02}, ("result",))
    page.gauge("outbox_pending", "Messages that wait.", 31)
    page.logs()
    page.go()
    return page


def timeout() -> Page:
    page = Page()
    page.http({("GET", "/api/home"): (88, 0.0018, 0.14, 0.9), ("GET", "/api/product/:id"): (130, 0.0012, 0.09, 0.55), ("GET", "/api/recommendations"): (84, 0.003, 0.11, 1.3),
               ("POST", "/api/cart"): (21, 0.0015, 0.08, 0.4), ("POST", "/api/checkout"): (5.1, 0.002, 0.42, 1.8)})
    page.upstream({"catalog": (218, 0.0012, 0.03, 0.2), "recommender": (172, 0.006, 0.07, 0.95), "inventory": (151, 0.002, 0.02, 0.16), "payments": (5.1, 0.003, 0.31, 1.5), "cart": (47, 0.001, 0.018, 0.1)})
    page.counter("upstream_fallbacks_total", "Answers made without the other service.", {("recommender", "empty"): 0.7, ("recommender", "stale"): 0.5, ("inventory", "assume_in_stock"): 0.2}, ("to", "kind"))
    page.counter("upstream_deadline_exceeded_total", "Requests that ran out of time.", {"/api/home": 0.12, "/api/recommendations": 0.21, "/api/checkout": 0.004}, ("route",))
    page.counter("render_partial_total", "Pages with a part left out.", {"recommendations": 1.1, "stock": 0.2, "reviews": 0.4}, ("part",))
    page.gauge("agent_sockets", "Sockets of the agent.", {("recommender", "busy"): 13, ("recommender", "free"): 20, ("catalog", "busy"): 7, ("catalog", "free"): 21}, ("to", "state"))
    page.gauge("agent_queue", "Requests that wait for a socket.", {"recommender": 0.3, "catalog": 0.05}, ("to",))
    page.counter("client_aborts_total", "Clients that went away.", {"/api/home": 0.5, "/api/recommendations": 0.4, "/api/product/:id": 0.6}, ("route",))
    page.counter("graphql_errors_total", "Errors in answers.", {"RecommendationUnavailable": 0.6, "StockUnknown": 0.2}, ("code",))
    page.logs()
    page.node()
    return page


def dependency_upgrade() -> Page:
    page = Page()
    page.http({("POST", "/invoices"): (7.2, 0.0018, 0.13, 0.8), ("GET", "/invoices/{id}"): (31, 0.0008, 0.03, 0.2), ("GET", "/accounts/{id}/balance"): (44, 0.0009, 0.02, 0.15), ("POST", "/payments/callback"): (6.4, 0.001, 0.05, 0.3),
               ("GET", "/invoices/{id}/pdf"): (3.3, 0.004, 0.6, 3.1)}, "http_server")
    page.gauge("hikaricp_connections", "Connections.", {"billing": 30}, ("pool",))
    page.gauge("hikaricp_connections_active", "Busy connections.", {"billing": 9.5}, ("pool",))
    page.gauge("hikaricp_connections_idle", "Idle connections.", {"billing": 20}, ("pool",))
    page.gauge("hikaricp_connections_pending", "Threads that wait.", {"billing": 0.3}, ("pool",))
    page.counter("hikaricp_connections_timeout_total", "Waits given up.", {"billing": 0.002}, ("pool",))
    page.histogram("hikaricp_connections_acquire_seconds", "Wait for a connection.", {"billing": (92, 0.0003, 0.006)}, ("pool",), FAST)
    page.histogram("hikaricp_connections_usage_seconds", "How long connections were out.", {"billing": (92, 0.012, 0.11)}, ("pool",))
    page.counter("json_parse_errors_total", "Bodies that could not be read.", {"invoice": 0.02, "callback": 0.03}, ("type",))
    page.counter("json_unknown_fields_total", "Fields that nobody knows.", {"invoice": 0.0, "callback": 1.2}, ("type",))
    page.counter("invoices_issued_total", "Invoices issued.", {"EUR": 4.6, "USD": 2.2, "GBP": 0.3}, ("currency",))
    page.counter("invoices_failed_total", "Invoices that failed.", {"validation": 0.05, "tax": 0.01, "storage": 0.004}, ("cause",))
    page.counter("payment_callbacks_total", "Callbacks.", {"accepted": 6.2, "duplicate": 0.15, "rejected": 0.03}, ("result",))
    page.counter("rounding_corrections_total", "Cents corrected.", 0.11)
    page.counter("http_client_requests_total", "Calls to others.", {("tax", "ok"): 7.1, ("tax", "error"): 0.02, ("ledger", "ok"): 13, ("ledger", "error"): 0.02, ("mail", "ok"): 5, ("mail", "error"): 0.06}, ("to", "result"))
    page.histogram("http_client_request_seconds", "Calls to others.", {"tax": (7.1, 0.06, 0.4), "ledger": (13, 0.02, 0.12), "mail": (5, 0.1, 0.9)}, ("to",))
    page.counter("scheduled_jobs_total", "Jobs run.", {("dunning", "ok"): 0.016, ("dunning", "error"): 0.0, ("export", "ok"): 0.033, ("export", "error"): 0.0003}, ("job", "result"))
    page.jvm()
    return page


def feature_flag() -> Page:
    page = Page()
    page.http({("GET", "/product/:slug"): (112, 0.0012, 0.11, 0.7), ("GET", "/cart"): (38, 0.0014, 0.09, 0.5), ("POST", "/cart/items"): (17, 0.0019, 0.07, 0.4), ("POST", "/checkout"): (4.4, 0.0025, 0.4, 1.9), ("GET", "/"): (71, 0.0007, 0.08, 0.4)})
    page.counter("flag_evaluations_total", "Flags read.", {("new-shipping-estimator", "off"): 141, ("new-shipping-estimator", "error"): 0.01, ("dark-mode", "on"): 60, ("dark-mode", "off"): 160, ("fast-search", "on"): 44}, ("flag", "variant"))
    page.counter("flag_defaults_total", "Flags that fell back to their default.", {"new-shipping-estimator": 0.02, "dark-mode": 0.03, "fast-search": 0.01}, ("flag",))
    page.histogram("flag_fetch_seconds", "Fetches of flags.", {(): (0.5, 0.03, 0.2)}, ())
    page.counter("shipping_estimates_total", "Estimates shown.", {("table", "ok"): 147, ("table", "none"): 2.1, ("carrier", "ok"): 0.0, ("carrier", "none"): 0.0}, ("source", "result"))
    page.histogram("shipping_estimate_seconds", "How long an estimate took.", {"table": (149, 0.002, 0.01)}, ("source",), FAST)
    page.counter("cart_abandoned_total", "Carts left behind.", 2.9)
    page.counter("checkout_completed_total", "Orders placed.", 3.9)
    page.counter("checkout_failed_total", "Checkouts that failed.", {"payment": 0.2, "address": 0.15, "shipping": 0.02}, ("step",))
    page.upstream({"carrier-gateway": (2.2, 0.012, 0.25, 1.9), "catalog": (180, 0.001, 0.03, 0.2), "pricing": (160, 0.0012, 0.025, 0.18)})
    page.counter("cache_requests_total", "Lookups.", {("page", "hit"): 61, ("page", "miss"): 120, ("rates", "hit"): 2.0, ("rates", "miss"): 0.3}, ("cache", "result"))
    page.counter("hydration_errors_total", "Pages that did not come alive.", 0.09)
    page.logs()
    page.node()
    return page


def config_change() -> Page:
    page = Page()
    page.http({("GET", "/search"): (140, 0.0016, 0.07, 0.55), ("GET", "/suggest"): (260, 0.0006, 0.014, 0.09), ("POST", "/reindex"): (0.2, 0.004, 1.2, 6.0), ("GET", "/facets"): (61, 0.001, 0.04, 0.3)}, "gateway")
    page.upstream({"index-a": (210, 0.0015, 0.03, 0.3), "index-b": (208, 0.0017, 0.032, 0.31), "ranker": (139, 0.002, 0.02, 0.2)}, "backend")
    page.gauge("backend_pool_in_use", "Connections in use.", {"index-a": 21, "index-b": 20, "ranker": 9}, ("to",))
    page.gauge("backend_pool_limit", "Most connections.", {"index-a": 64, "index-b": 64, "ranker": 32}, ("to",))
    page.counter("backend_pool_rejected_total", "Calls with no connection to have.", {"index-a": 0.01, "index-b": 0.01, "ranker": 0.004}, ("to",))
    page.gauge("worker_queue_depth", "Requests that wait for a worker.", {"search": 1.8, "suggest": 0.6}, ("queue",))
    page.counter("worker_queue_rejected_total", "Requests refused for a full queue.", {"search": 0.03, "suggest": 0.01}, ("queue",))
    page.histogram("worker_queue_wait_seconds", "Wait for a worker.", {"search": (140, 0.001, 0.03), "suggest": (260, 0.0005, 0.008)}, ("queue",), FAST)
    page.counter("rate_limited_total", "Requests over the limit.", {"anonymous": 1.9, "partner": 0.1}, ("tier",))
    page.counter("cache_requests_total", "Lookups.", {("result", "hit"): 82, ("result", "miss"): 58, ("suggest", "hit"): 214, ("suggest", "miss"): 46}, ("cache", "result"))
    page.counter("search_empty_total", "Searches that found nothing.", 6.8)
    page.counter("search_degraded_total", "Searches without all shards.", {"index-a": 0.06, "index-b": 0.07}, ("shard",))
    page.gauge("container_memory_working_set_bytes", "Memory in use.", 1.2e9)
    page.counter("container_cpu_throttled_seconds_total", "CPU withheld.", 0.06)
    page.counter("container_oom_kills_total", "Kills for memory.", 0.0)
    page.logs()
    page.go()
    return page


def queue_consumer() -> Page:
    page = Page()
    page.counter("consumer_messages_total", "Messages taken.", {("email", "ok"): 61, ("email", "error"): 0.2, ("push", "ok"): 118, ("push", "error"): 0.6, ("sms", "ok"): 9, ("sms", "error"): 0.05}, ("queue", "result"))
    page.counter("consumer_redelivered_total", "Messages that came again.", {"email": 0.3, "push": 0.8, "sms": 0.04}, ("queue",))
    page.counter("consumer_dead_lettered_total", "Messages given up.", {"email": 0.01, "push": 0.02, "sms": 0.002}, ("queue",))
    page.counter("consumer_acks_total", "Messages acknowledged.", {"email": 61, "push": 118, "sms": 9}, ("queue",))
    page.counter("consumer_ack_failures_total", "Acknowledgements that failed.", {"email": 0.004, "push": 0.01, "sms": 0.0005}, ("queue",))
    page.counter("consumer_duplicates_total", "Messages that were handled before.", {"email": 0.05, "push": 0.12, "sms": 0.004}, ("queue",))
    page.histogram("consumer_handling_seconds", "How long a message took.", {"email": (61, 0.04, 0.4), "push": (118, 0.02, 0.15), "sms": (9, 0.12, 0.8)}, ("queue",))
    page.histogram("consumer_age_seconds", "Age of a message when it is taken.", {"email": (61, 0.4, 6), "push": (118, 0.2, 2.5), "sms": (9, 0.4, 5)}, ("queue",), LONG)
    page.gauge("consumer_lag", "Messages that wait.", {"email": 44, "push": 61, "sms": 6}, ("queue",))
    page.gauge("consumer_in_flight", "Messages being handled.", {"email": 8, "push": 11, "sms": 2}, ("queue",))
    page.gauge("consumer_prefetch", "Messages taken ahead.", {"email": 32, "push": 64, "sms": 16}, ("queue",))
    page.counter("provider_calls_total", "Calls to senders.", {("ses", "ok"): 61, ("ses", "throttled"): 0.1, ("ses", "error"): 0.05, ("fcm", "ok"): 118, ("fcm", "error"): 0.5, ("twilio", "ok"): 9, ("twilio", "error"): 0.05}, ("provider", "result"))
    page.histogram("provider_call_seconds", "Calls to senders.", {"ses": (61, 0.035, 0.3), "fcm": (118, 0.016, 0.12), "twilio": (9, 0.11, 0.7)}, ("provider",))
    page.counter("templates_rendered_total", "Texts made.", {"ok": 187, "error": 0.03}, ("result",))
    page.counter("broker_reconnects_total", "New connections to the broker.", 0.002)
    page.gauge("broker_channels", "Channels.", 12)
    page.counter("unsubscribed_skipped_total", "Messages not sent for good reason.", 7.7)
    page.http({("GET", "/healthz"): (1.2, 0.0001, 0.001, 0.004), ("POST", "/internal/preview"): (0.4, 0.002, 0.05, 0.3)})
    page.logs(190)
    page.tokio()
    return page


def api_route() -> Page:
    page = Page()
    page.http({("GET", "/rooms"): (52, 0.0009, 0.04, 0.3), ("GET", "/rooms/{room_id}/availability"): (74, 0.0011, 0.05, 0.4), ("POST", "/bookings"): (6.1, 0.0024, 0.15, 0.8), ("GET", "/bookings/{booking_id}"): (18, 0.0006, 0.02, 0.1),
               ("DELETE", "/bookings/{booking_id}"): (0.7, 0.002, 0.06, 0.3)})
    page.counter("bookings_total", "Bookings.", {"confirmed": 5.6, "conflict": 0.31, "payment_failed": 0.12, "invalid": 0.06}, ("result",))
    page.counter("booking_changes_total", "Bookings changed.", {"cancelled": 0.68, "no_show": 0.02}, ("kind",))
    page.counter("availability_cache_total", "Lookups of availability.", {"hit": 58, "miss": 16}, ("result",))
    page.counter("availability_cache_invalidations_total", "Entries thrown away.", {"booked": 5.6, "cancelled": 0.7}, ("cause",))
    page.counter("overbookings_total", "Rooms given away twice.", 0.0006)
    page.counter("rate_limited_total", "Requests over the limit.", {"POST /bookings": 0.03, "GET /rooms": 0.4}, ("limit",))
    page.counter("validation_errors_total", "Bodies that were refused.", {"/bookings": 0.06, "/rooms": 0.2}, ("route",))
    page.database("bookings", {"availability": (16, 0.02, 0.2), "insert_booking": (6.1, 0.012, 0.09), "booking_by_id": (19, 0.003, 0.02), "lock_room": (6.8, 0.004, 0.06), "cancel": (0.7, 0.008, 0.05)}, 0.012)
    page.upstream({"payments": (6.0, 0.004, 0.1, 0.6), "mail": (6.3, 0.002, 0.05, 0.3)})
    page.counter("idempotency_keys_total", "Keys of requests.", {"new": 6.0, "replayed": 0.12}, ("result",))
    page.logs()
    page.python()
    return page


def prompt_or_model() -> Page:
    page = Page()
    page.http({("POST", "/v1/tickets/reply"): (3.4, 0.004, 2.6, 11), ("POST", "/v1/tickets/classify"): (12, 0.002, 0.6, 2.4), ("GET", "/v1/tickets/{id}"): (26, 0.0006, 0.02, 0.1), ("POST", "/v1/feedback"): (1.1, 0.001, 0.02, 0.1)})
    page.counter("llm_calls_total", "Calls of models.", {("reply", "large-2025-06", "ok"): 3.6, ("reply", "large-2025-06", "error"): 0.02, ("classify", "small-2025-03", "ok"): 12, ("classify", "small-2025-03", "error"): 0.03}, ("task", "model", "result"))
    page.histogram("llm_call_seconds", "How long models took.", {"reply": (3.6, 2.4, 10), "classify": (12, 0.5, 2.1)}, ("task",), LONG)
    page.counter("llm_tokens_total", "Tokens.", {("reply", "input"): 8600, ("reply", "output"): 1150, ("classify", "input"): 5200, ("classify", "output"): 130}, ("task", "direction"))
    page.counter("llm_cost_dollars_total", "What was paid.", {"reply": 0.031, "classify": 0.0019}, ("task",))
    page.counter("llm_retries_total", "Calls made again.", {"reply": 0.09, "classify": 0.12}, ("task",))
    page.counter("llm_finish_total", "Why models stopped.", {("reply", "stop"): 3.5, ("reply", "length"): 0.05, ("reply", "content_filter"): 0.01, ("classify", "stop"): 12}, ("task", "reason"))
    page.counter("llm_output_invalid_total", "Answers that could not be read.", {"reply": 0.03, "classify": 0.05}, ("task",))
    page.counter("reply_guardrail_total", "What the guardrail made of replies.", {"pass": 3.3, "policy": 0.05, "no_citation": 0.12, "tone": 0.03}, ("result",))
    page.counter("reply_escalated_total", "Tickets handed to a person.", {"low_confidence": 0.42, "guardrail": 0.2, "customer_asked": 0.15}, ("reason",))
    page.counter("reply_feedback_total", "What people thought of replies.", {"up": 0.52, "down": 0.09}, ("vote",))
    page.counter("reply_edited_total", "Replies that agents changed.", {"none": 1.9, "light": 0.9, "heavy": 0.3}, ("amount",))
    page.counter("ticket_category_total", "Tickets by category.", {"billing": 3.1, "delivery": 4.6, "account": 2.0, "refund": 1.6, "other": 0.7}, ("category",))
    page.counter("retrieval_requests_total", "Searches for passages.", {"hit": 3.1, "empty": 0.3}, ("result",))
    page.histogram("retrieval_seconds", "How long a search took.", {(): (3.4, 0.06, 0.3)}, ())
    page.histogram("reply_characters", "Length of replies.", {(): (3.4, 900, 2600)}, (), [100, 250, 500, 1000, 1500, 2000, 3000, 4000])
    page.gauge("llm_rate_limit_remaining", "Calls that are left.", {"large-2025-06": 810, "small-2025-03": 4200}, ("model",))
    page.logs()
    page.python()
    return page


def hostile_payments() -> Page:
    page = Page()
    page.http({("POST", "/charges"): (22, 0.0018, 0.24, 1.1), ("POST", "/refunds"): (1.9, 0.002, 0.2, 0.9), ("GET", "/charges/:id"): (41, 0.0007, 0.02, 0.1), ("POST", "/webhooks/acquirer"): (21, 0.0008, 0.03, 0.2)})
    page.counter("charges_total", "Charges.", {("card", "approved"): 18.9, ("card", "declined"): 1.7, ("card", "error"): 0.04, ("wallet", "approved"): 1.3, ("wallet", "declined"): 0.06}, ("method", "result"))
    page.counter("fraud_checks_total", "Charges looked at.", {"allow": 20.8, "review": 0.7, "block": 0.41, "error": 0.02}, ("decision",))
    page.histogram("fraud_check_seconds", "How long that took.", {(): (22, 0.045, 0.25)}, ())
    page.counter("chargebacks_total", "Charges taken back.", 0.011)
    page.counter("velocity_limit_hits_total", "Cards used too often.", {"card": 0.22, "device": 0.09, "ip": 0.3}, ("by",))
    page.counter("idempotent_replays_total", "Requests that came again.", 0.3)
    page.counter("amount_mismatch_total", "Amounts that differ from the order's.", 0.004)
    page.counter("refunds_total", "Refunds.", {"ok": 1.88, "refused": 0.03}, ("result",))
    page.upstream({"acquirer": (23, 0.003, 0.18, 0.9), "fraud": (22, 0.001, 0.04, 0.22), "ledger": (45, 0.0006, 0.01, 0.07)})
    page.database("payments", {"insert_charge": (22, 0.006, 0.04), "charge_by_id": (43, 0.002, 0.015), "update_charge": (43, 0.004, 0.03)}, 0.01)
    page.counter("audit_events_total", "Events for the auditors.", {"charge": 22, "refund": 1.9, "override": 0.01}, ("kind",))
    page.logs()
    page.go()
    return page


def hostile_exports() -> Page:
    page = Page()
    page.http({("POST", "/exports"): (2.3, 0.003, 0.12, 0.6), ("GET", "/exports/{export_id}"): (15, 0.0009, 0.02, 0.1), ("GET", "/exports/{export_id}/download"): (2.0, 0.002, 0.9, 6), ("GET", "/reports"): (11, 0.001, 0.08, 0.5)})
    page.counter("authorization_decisions_total", "Whether a request may.", {("export", "allow"): 18.6, ("export", "deny"): 0.7, ("report", "allow"): 10.8, ("report", "deny"): 0.2}, ("resource", "decision"))
    page.counter("export_rows_total", "Rows exported.", 5200)
    page.counter("export_bytes_total", "Bytes exported.", 1.4e6)
    page.counter("export_jobs_total", "Exports made.", {"done": 2.2, "failed": 0.03, "cancelled": 0.02, "too_large": 0.04}, ("result",))
    page.histogram("export_job_seconds", "How long an export took.", {(): (2.2, 4.5, 28)}, (), LONG)
    page.gauge("export_queue_depth", "Exports that wait.", 3.2)
    page.counter("signed_urls_total", "Addresses given out.", {"issued": 2.1, "expired": 0.1, "rejected": 0.02}, ("result",))
    page.counter("tenant_mismatch_total", "Requests for what is another's.", 0.006)
    page.database("exports", {"export_by_id": (18, 0.003, 0.02), "select_rows": (2.3, 0.4, 3.1), "insert_export": (2.3, 0.006, 0.04)}, 0.01)
    page.upstream({"storage": (4.4, 0.002, 0.06, 0.5), "identity": (28, 0.0008, 0.008, 0.04)})
    page.logs()
    page.python()
    return page


def low_traffic() -> Page:
    page = Page()
    page.http({("GET", "/refunds"): (0.11, 0.003, 0.12, 0.7), ("POST", "/refunds/{id}/approve"): (0.012, 0.01, 0.3, 1.4), ("GET", "/audit"): (0.02, 0.002, 0.2, 1.1), ("POST", "/session"): (0.006, 0.01, 0.2, 0.8)})
    page.counter("refund_approvals_total", "Refunds decided by people.", {"approved": 0.009, "refused": 0.002, "second_person_needed": 0.001}, ("decision",))
    page.gauge("refunds_open", "Refunds that wait for a decision.", 84)
    page.counter("refund_exports_total", "Refunds handed to the bank.", {"ok": 0.009, "error": 0.0001}, ("result",))
    page.counter("audit_events_total", "Events for the auditors.", {"login": 0.006, "approve": 0.012, "export": 0.009}, ("kind",))
    page.counter("permission_denied_total", "Requests of people who may not.", {"approve": 0.0015, "export": 0.0004}, ("action",))
    page.upstream({"payments": (0.02, 0.004, 0.2, 1.0), "directory": (0.15, 0.001, 0.02, 0.1)})
    page.database("backoffice", {"open_refunds": (0.11, 0.02, 0.2), "decide": (0.012, 0.01, 0.08), "audit": (0.03, 0.004, 0.03)}, 0.0004)
    page.logs(1.2)
    page.python()
    return page


CASES = {"cache": cache, "auth": auth, "sql_migration": sql_migration, "timeout": timeout, "dependency_upgrade": dependency_upgrade,
         "feature_flag": feature_flag, "config": config_change, "queue_consumer": queue_consumer, "api_route": api_route,
         "prompt_or_model": prompt_or_model, "docs_only": cache, "hostile_comment": hostile_payments, "hostile_hidden": hostile_exports, "low_traffic": low_traffic}


class Pod:
    """One pod's page as time goes on."""

    def __init__(self, lines: list[str], part: float, seed: int) -> None:
        self.lines, self.part, self.chance = lines, part, random.Random(seed)
        self.values: dict[str, float] = {}
        self.read = time.monotonic()

    def page(self) -> str:
        now = time.monotonic()
        seconds, self.read = now - self.read, now
        wave = 1 + 0.15 * math.sin(now / 600)
        kind, out, low, risen = "", [], 0.0, 0.0
        for line in self.lines:
            if line.startswith("#"):
                kind = line.rsplit(" ", 1)[1] if line.startswith("# TYPE") else kind
                out.append(line)
                continue
            series, rate = line.rsplit(" ", 1)
            rate = float(rate)
            if kind == "gauge":
                out.append(f"{series} {max(0.0, rate * self.chance.gauss(1, 0.05)):.6g}")
                continue
            is_bucket = "_bucket{" in series
            if is_bucket and rate < low:
                low = risen = 0.0
            mean = (rate - low if is_bucket else rate) * self.part * seconds * wave
            step = mean if "_sum" in series or mean > 1e5 else self.poisson(mean)
            if is_bucket:
                low, risen = rate, risen + step
                step = risen
                if 'le="+Inf"' in series:
                    self.counted, low, risen = step, 0.0, 0.0
            elif kind == "histogram" and "_count" in series:
                step = self.counted
            self.values[series] = self.values.get(series, 0.0) + step
            out.append(f"{series} {self.values[series]:.10g}")
        return "\n".join(out) + "\n"

    def poisson(self, mean: float) -> float:
        if mean > 30:
            return max(0.0, round(self.chance.gauss(mean, math.sqrt(mean))))
        count, left = 0, self.chance.expovariate(1)
        while left < mean:
            count, left = count + 1, left + self.chance.expovariate(1)
        return float(count)


def serve(case: str, port: int) -> None:
    lines = (HERE / case / "metrics.prom").read_text().splitlines()
    pods = {f"/old-{n}/metrics": Pod(lines, 0.25, n) for n in range(4)} | {"/new-0/metrics": Pod(lines, 0.01, 9)}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pod = pods.get(self.path)
            body = (pod.page() if pod else "").encode()
            self.send_response(200 if pod else 404)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    print(f"http://127.0.0.1:{port}/old-0/metrics", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "serve"])
    parser.add_argument("case", nargs="?", choices=sorted(CASES))
    parser.add_argument("--port", type=int, default=9100)
    args = parser.parse_args()
    if args.what == "serve":
        if not args.case:
            parser.error("name the case to serve")
        serve(args.case, args.port)
    for name, make in CASES.items():
        (HERE / name).mkdir(exist_ok=True)
        page = make()
        (HERE / name / "metrics.prom").write_text("\n".join(page.lines) + "\n")
        families = sum(line.startswith("# TYPE") for line in page.lines)
        print(f"{name}: {families} metrics, {len(page.lines) - 2 * families} series")
    return 0


if __name__ == "__main__":
    sys.exit(main())
