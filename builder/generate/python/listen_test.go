package python

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

func TestWarnLocal(t *testing.T) {
	const flask = "from flask import Flask\napp = Flask(__name__)\n"
	for source, want := range map[string]string{
		flask + "app.run()":                                         `app.run() listens on 127.0.0.1, which is reached from inside of its container only: pass host="0.0.0.0"`,
		flask + "app.run(\n  port=int(f(5000)),\n  )":               "app.run() listens on 127.0.0.1",
		flask + "app.run(host='localhost')":                         "app.run() listens on localhost",
		flask + "app.run(host=os.environ.get('HOST', '127.0.0.1'))": "app.run() listens on 127.0.0.1",
		flask + "app.run(host='0.0.0.0')":                           "",
		flask + "app.run(host=HOST, note='localhost')":              "",
		flask + "app.run(**options)":                                "",
		flask + "def f(): subprocess.run(['x'])":                    "",
		"import uvicorn\nuvicorn.run('main:app', port=8000)":        "uvicorn.run() listens on 127.0.0.1",
		"import uvicorn\nuvicorn.run(app, host='::')":               "",
		flask + "app.run('0.0.0.0', 80)":                            "",
		flask + "app.run('localhost')":                              "app.run() listens on localhost",
		"import asyncio\nasyncio.run(main())":                       "",
		"from bottle import run\nrun(port=8080)":                    "run() listens on 127.0.0.1",
		"import gradio as gr\ndemo.launch()":                        `demo.launch() listens on 127.0.0.1, which is reached from inside of its container only: pass server_name="0.0.0.0"`,
		"HTTPServer(('localhost', 8000), H).serve_forever()":        "the program listens on localhost",
		"HTTPServer(('', 8000), H).serve_forever()":                 "",
		"asyncio.start_server(handle, '127.0.0.1', 80)":             "the program listens on 127.0.0.1",
		"make_server('127.0.0.1', 80, app)":                         "the program listens on 127.0.0.1",
		flask + "app.run(" + strings.Repeat("(", 9000):              "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		tree, err := sourcetree.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		p, err := Analyse(survey.Request{Tree: tree})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(p.Warnings, "\n")
		if want == "" && got != "" || want != "" && !strings.HasPrefix(got, "main.py: "+want) {
			t.Errorf("%q: %q, want %q", source, got, want)
		}
	}
}
