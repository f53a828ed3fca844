package report_test

import (
	"bytes"
	"flag"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/report"
)

var (
	browser  = flag.String("browser", "", "a Chromium in which TestBrowser opens pages")
	pictures = flag.String("pictures", "", "a directory for its screenshots")
)

// TestBrowser opens pages in Chromium, in light, dark and 400 pixels wide. The console must
// stay empty: scripts, requests and broken elements are reported there. People look at the
// screenshots.
func TestBrowser(t *testing.T) {
	if *browser == "" {
		t.Skip("no -browser: go test ./builder/report -run TestBrowser -browser chromium -pictures DIR")
	}
	dir := *pictures
	if dir == "" {
		dir = t.TempDir()
	}
	for name, b := range map[string]*report.Build{"sample": sample(), "failed": failed(), "hostile": hostile(), "many": many(2000)} {
		path := filepath.Join(dir, name+".html")
		if err := os.WriteFile(path, []byte(text(t, b, report.FormatHTML)), 0o644); err != nil {
			t.Fatal(err)
		}
		narrow := filepath.Join(dir, name+"-frame.html")
		frame := fmt.Sprintf(`<body style="margin:0"><iframe src="%s.html" style="border:0" width="400" height="2400"></iframe>`, name)
		if err := os.WriteFile(narrow, []byte(frame), 0o644); err != nil {
			t.Fatal(err)
		}
		open(t, path, filepath.Join(dir, name+"-light.png"))
		open(t, path, filepath.Join(dir, name+"-dark.png"), "--blink-settings=preferredColorScheme=0")
		open(t, narrow, filepath.Join(dir, name+"-narrow.png"), "--allow-file-access-from-files")
	}
}

func open(t *testing.T, page, picture string, more ...string) {
	t.Helper()
	args := append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + t.TempDir(),
		"--window-size=1280,2400", "--screenshot=" + picture,
	}, more...)
	out, err := exec.Command(*browser, append(args, "file://"+page)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", page, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("%s: %s", page, line)
		}
	}
	b, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := png.DecodeConfig(bytes.NewReader(b)); err != nil || c.Width != 1280 {
		t.Errorf("%s: a picture of %d columns, %v", picture, c.Width, err)
	}
}
