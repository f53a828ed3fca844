package source

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// bigTree returns a real directory of about 16,000 files and 240 MB.
func bigTree(b *testing.B) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skipf("no Go toolchain: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// BenchmarkBare measures the system calls that every walk needs.
func BenchmarkBare(b *testing.B) {
	root := bigTree(b)
	buf := make([]byte, 64<<10)
	n := 0
	var walk func(fd int)
	walk = func(fd int) {
		var names []byte
		for {
			k, err := unix.Getdents(fd, buf)
			if err != nil || k <= 0 {
				break
			}
			for o := 0; o < k; {
				d := (*unix.Dirent)(unsafe.Pointer(&buf[o]))
				name := buf[o+direntName : o+int(d.Reclen)]
				o += int(d.Reclen)
				end := 0
				for name[end] != 0 {
					end++
				}
				if s := string(name[:end]); s != "." && s != ".." {
					names = append(names, name[:end+1]...)
				}
			}
		}
		var st unix.Stat_t
		for from := 0; from < len(names); {
			to := from
			for names[to] != 0 {
				to++
			}
			name := unsafe.String(&names[from], to-from)
			from = to + 1
			n++
			if lstat(fd, name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				if c, err := openDir(fd, name); err == nil {
					walk(c)
					unix.Close(c)
				}
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n = 0
		fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			b.Fatal(err)
		}
		walk(fd)
		unix.Close(fd)
	}
	b.ReportMetric(float64(n), "files")
}

func benchWalk(b *testing.B, ignore string) {
	root := bigTree(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n = 0
		d, err := OpenDir(root, []byte(ignore), nil)
		if err != nil {
			b.Fatal(err)
		}
		err = d.Walk(context.Background(), ".", WalkOptions{}, func(File) error { n++; return nil })
		if err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
	b.ReportMetric(float64(n), "files")
}

func BenchmarkWalk(b *testing.B) { benchWalk(b, "") }

// BenchmarkWalkIgnore uses the filters of real projects.
func BenchmarkWalkIgnore(b *testing.B) {
	benchWalk(b, strings.Join([]string{".git", "node_modules", "**/*.o", "**/__pycache__", "*.md", "dist/**",
		"**/.DS_Store", "vendor/*/test", "!README.md", "build?", "**/*_windows.go", "docs/**/*.html"}, "\n"))
}

// memory stores hints in memory.
type memory struct {
	mu   sync.Mutex
	m    map[string][]byte
	puts int
}

func (m *memory) Hint(key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.m[key]; ok {
		return b, nil
	}
	return nil, unix.ENOENT
}

func (m *memory) PutHint(key string, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[string][]byte{}
	}
	m.m[key] = b
	m.puts++
	return nil
}

func benchScan(b *testing.B, store Hints) {
	root := bigTree(b)
	b.ReportAllocs()
	var size int64
	for b.Loop() {
		d, err := OpenDir(root, nil, store)
		if err != nil {
			b.Fatal(err)
		}
		size = 0
		err = d.Scan(context.Background(), ".", WalkOptions{}, func(files []File) {
			for _, f := range files {
				if f.Type == listing.TypeFile && f.Digest == "" {
					b.Fatal(f.Path)
				}
				size += f.Size
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.SaveHints(); err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
	b.ReportMetric(float64(size)/1e6, "MB")
}

func BenchmarkScanCold(b *testing.B) { benchScan(b, nil) }

func BenchmarkScanWarm(b *testing.B) {
	m := &memory{}
	d, err := OpenDir(bigTree(b), nil, m)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if err := d.Scan(context.Background(), ".", WalkOptions{}, func([]File) {}); err != nil {
		b.Fatal(err)
	}
	if err := d.SaveHints(); err != nil {
		b.Fatal(err)
	}
	for _, v := range m.m {
		b.ReportMetric(float64(len(v)), "hintbytes")
	}
	start := time.Now()
	decodeHints(m.m["context "+d.Path()])
	b.Logf("decoding took %v", time.Since(start))
	benchScan(b, m)
}
