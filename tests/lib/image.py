"""Images that have a kernel in them."""
import os
import shutil
import subprocess

from host import guest_files

GRUB = """set default="1"
set timeout=5
menuentry 'Rescue' {{
	linux /boot/nothing root=/dev/xvda
}}
menuentry 'Debian GNU/Linux' --class debian {{
	linux /boot/vmlinuz-6.1 root=/dev/xvda {words} from=grub
	initrd /boot/initrd.img-6.1
}}
"""


def make_image(path, words="console=hvc0"):
    """A raw file system with a kernel, a ramdisk and GRUB's menu, whose default entry has @words; None: with nothing. What is in
    it is also in the folder @path.tree."""
    tree = path + ".tree"
    os.makedirs(tree + "/boot/grub")
    if words is not None:
        files = guest_files()
        shutil.copy(f"{files}/vmlinuz", tree + "/boot/vmlinuz-6.1")
        shutil.copy(f"{files}/initrd.gz", tree + "/boot/initrd.img-6.1")
        with open(tree + "/boot/grub/grub.cfg", "w") as f:
            f.write(GRUB.format(words=words))
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, path, "64M"], check=True, stdout=subprocess.DEVNULL)


def convert(path, form):
    """The same image in another format."""
    other = f"{path}.{form}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, path, other], check=True)
    return other
