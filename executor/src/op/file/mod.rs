//! COPY, ADD and WORKDIR as pure functions over trees.
