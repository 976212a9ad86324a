from debian:12 as base
from debian:12 as other
from debian:12 as fine
