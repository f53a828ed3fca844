package bases

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const busyboxPath = "/bin/busybox"

// busybox packs the machine's static busybox with a link for each applet.
func (m Maker) busybox(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "cairn-base-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	applets, err := output(ctx, busyboxPath, "--list")
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "root.tar"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := packBusybox(f, strings.Fields(applets)); err != nil {
		return fmt.Errorf("packing busybox: %w", err)
	}
	return m.build(ctx, "busybox", "busybox", dir)
}

func packBusybox(w io.Writer, applets []string) error {
	program, err := os.ReadFile(busyboxPath)
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	for _, name := range []string{"bin/", "dev/", "etc/", "home/", "proc/", "root/", "sys/", "tmp/", "usr/", "usr/bin/", "var/"} {
		mode := int64(0o755)
		if name == "tmp/" {
			mode = 0o1777
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}); err != nil {
			return err
		}
	}
	add := func(name string, mode int64, content []byte) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := t.Write(content)
		return err
	}
	if err := add("bin/busybox", 0o755, program); err != nil {
		return err
	}
	for _, name := range applets {
		if name == "busybox" {
			continue
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "bin/" + name, Linkname: "bin/busybox", Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := add("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")); err != nil {
		return err
	}
	if err := add("etc/group", 0o644, []byte("root:x:0:\nnobody:x:65534:\n")); err != nil {
		return err
	}
	return t.Close()
}
