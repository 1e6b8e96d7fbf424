# Stands for the firmware's properties in the device tree, and for the driver of its mailbox.
c=/sys/firmware/devicetree/base/chosen o=/run/lab-chosen f=0
for w in $(cat /proc/cmdline); do
  case $w in lab.tryboot=1) f=1;; esac
done
mkdir -p $o/bootloader
cp -r $c/. $o/
# 32 bits, the highest first.
printf "\\000\\000\\000\\00$f" > $o/bootloader/tryboot
mount --bind $o $c
[ -e /dev/vcio ] || mknod -m 0660 /dev/vcio c 1 3
