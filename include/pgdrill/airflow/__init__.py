"""Airflow's side of pgdrill: translates between Airflow and the library, and does nothing else.

The only part of the package that imports Airflow. What costs time to import stands inside
functions, for Airflow reads DAG files again and again.
"""
