"""Training jobs: a queue in the database, a runner in the service, and a driver's process for each job.

create ──▶ queue ──claim──▶ runner ──starts──▶ driver (a process, a folder) ──▶ events, model, result ──▶ version, usage
"""
