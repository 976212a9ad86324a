from debian:12
run echo one
env A=1
