package bases

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// debian builds a minimal Debian with debootstrap. That takes a minute, so the archive
// stays in the user's cache directory for a week.
func (m Maker) debian(ctx context.Context) error {
	archive := DebianArchive()
	dir := filepath.Dir(archive)
	if info, err := os.Stat(archive); err != nil || time.Since(info.ModTime()) > 7*24*time.Hour {
		if err := m.debootstrap(ctx, archive); err != nil {
			return err
		}
	}
	if err := m.machine(ctx, filepath.Join(dir, "machine.tar")); err != nil {
		return err
	}
	return m.build(ctx, "debian", "debian", dir)
}

// DebianArchive returns the path of the root file system's archive.
func DebianArchive() string {
	return filepath.Join(cacheDir(), "debian-bookworm-"+arch(), "root.tar")
}

func (m Maker) debootstrap(ctx context.Context, archive string) error {
	dir := filepath.Dir(archive)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(dir, "root-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	tree := filepath.Join(temp, "tree")
	args := []string{"--variant=minbase", "bookworm", tree}
	if mirror := mirror(ctx); mirror != "" {
		args = append(args, mirror)
	}
	if err := m.run(ctx, "debootstrap", args...); err != nil {
		return err
	}
	err = m.run(ctx, "tar", "-C", tree, "--sort=name", "--numeric-owner", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*",
		"--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*_*", "-cf", archive+".new", ".")
	if err != nil {
		return err
	}
	return os.Rename(archive+".new", archive)
}

// mirror returns the Debian mirror that this machine uses, or "" to let debootstrap
// choose.
func mirror(ctx context.Context) string {
	out, err := output(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "Debian" && !strings.ContainsAny(f[1], "-/") {
			return f[2]
		}
	}
	return ""
}

// machine writes an archive with this machine's network settings for steps: the
// certificate authorities that it trusts, and apt's proxies.
func (m Maker) machine(ctx context.Context, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	add := func(name string, content []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	if bundle, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt"); err == nil {
		if err := add("etc/ssl/certs/ca-certificates.crt", bundle); err != nil {
			return err
		}
	}
	if err := add("etc/apt/apt.conf.d/90machine", []byte(aptProxies(ctx))); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return f.Close()
}

func aptProxies(ctx context.Context) string {
	dump, err := output(ctx, "apt-config", "dump")
	if err != nil {
		return ""
	}
	var lines strings.Builder
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "Acquire::") && strings.Contains(line, "::Proxy") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}
