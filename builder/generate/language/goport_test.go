package language

import "testing"

func TestGoPort(t *testing.T) {
	for _, c := range []struct {
		text     string
		number   int
		variable bool
		local    string
	}{
		{`port := os.Getenv("PORT"); if port == "" { port = "8080" }; http.ListenAndServe(":"+port, nil)`, 8080, true, ""},
		{`port := os.Getenv("PORT"); http.ListenAndServe(":"+port, nil)`, 0, true, ""},
		{`port := env("PORT", "8082"); http.ListenAndServe(fmt.Sprintf(":%s", port), nil)`, 8082, true, ""},
		{`port := cmp.Or(os.Getenv("PORT"), "8081"); http.ListenAndServe(":"+port, nil)`, 8081, true, ""},
		{`port := envInt("PORT", 9000)`, 9000, true, ""},
		{"Port int `env:\"PORT\" envDefault:\"8083\"`", 8083, true, ""},
		{`addr := flag.String("addr", ":9091", "address")`, 9091, false, ""},
		{`flag.IntVar(&o.port, "port", 9095, "")`, 9095, false, ""},
		{`f.StringVarP(&addr, "listen", "l", "0.0.0.0:9093", "")`, 9093, false, ""},
		{`const defaultPort = "8084"`, 8084, false, ""},
		{`port := 8085`, 8085, false, ""},
		{`redis.Options{Addr: "localhost:6379"}; http.ListenAndServe(":8086", nil)`, 8086, false, ""},
		{`dbPort := "7000"`, 0, false, ""},
		{`if r.Header["PORT"] != "80" {}`, 0, false, ""},
		{`http.ListenAndServe("127.0.0.1:8087", nil)`, 8087, false, "127.0.0.1"},
		{`http.ListenAndServe("localhost:"+port, nil)`, 0, false, "localhost"},
		{`r.Run("[::1]:8088")`, 8088, false, "[::1]"},
		{`http.ListenAndServe("0.0.0.0:8089", nil)`, 8089, false, ""},
	} {
		l := &goListener{}
		l.read("main.go", "package main\n"+c.text)
		if l.number != c.number || l.variable != c.variable || l.local != c.local {
			t.Errorf("%s: port %d, reads PORT: %v, local %q; want %d, %v, %q", c.text, l.number, l.variable, l.local, c.number, c.variable, c.local)
		}
	}
	l := &goListener{}
	l.read("config.go", `Addr: ":9000"`)
	l.read("main.go", `env("PORT", "8080")`)
	if l.number != 8080 || l.from != "main.go" {
		t.Errorf("port %d of %s, want that of PORT", l.number, l.from)
	}
}
