package source

import "testing"

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://me:secret@host/a.git":            "https://xxxxx:xxxxx@host/a.git",
		"https://token@host/a":                    "https://xxxxx@host/a",
		"https://:secret@host":                    "https://:xxxxx@host",
		"https://host/a@b":                        "https://host/a@b",
		"https://host/?q=a:b@c":                   "https://host/?q=a:b@c",
		"git@host:me/a.git":                       "git@host:me/a.git",
		"ADD https://a:b@h/1 ssh://git@h/2 /x":    "ADD https://xxxxx:xxxxx@h/1 ssh://xxxxx@h/2 /x",
		"fatal: unable to access 'http://a:b@h/'": "fatal: unable to access 'http://xxxxx:xxxxx@h/'",
		"https://a:p%40ss@h":                      "https://xxxxx:xxxxx@h",
		"https://a:p@ss@h/1 me@h":                 "https://xxxxx:xxxxx@h/1 me@h",
		"https://a@b@h/x":                         "https://xxxxx@h/x",
		"https://a:b@h,https://c:d@e@i":           "https://xxxxx:xxxxx@h,https://xxxxx:xxxxx@i",
		"https://a:b:c@h":                         "https://xxxxx:xxxxx@h",
		"":                                        "",
		"https://me:secret@host/a@b":              "https://xxxxx:xxxxx@host/a@b",
		"https://me:pa/ss@host/a":                 "https://xxxxx:xxxxx@host/a",
		"https://me:1pa/ss@w@host/a, b@c":         "https://xxxxx:xxxxx@host/a, b@c",
		"https://me:p#s?x@host":                   "https://xxxxx:xxxxx@host",
		"https://host:80/a@b http://[::1]:80/a@b": "https://host:80/a@b http://[::1]:80/a@b",
		"Get \"https://host\": a@b x@y":           "Get \"https://host\": a@b x@y",
		`parse "https://me:pa/ss@host": invalid port ":pa" after host`: `parse "https://xxxxx:xxxxx@host": a password needs % escapes, as in %2F for /`,
		`parse "https://host:pa/ss": invalid port ":pa" after host`:    `parse "https://host:pa/ss": invalid port ":pa" after host`,
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}
