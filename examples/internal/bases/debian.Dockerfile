# What debootstrap makes, and how this machine reaches its package mirrors.
FROM scratch
ADD root.tar /
ADD machine.tar /
CMD ["bash"]
