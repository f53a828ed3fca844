package plan

import "testing"

func TestCmdAndEntrypoint(t *testing.T) {
	t.Parallel()
	both := func(t *testing.T, p *Plan) string {
		t.Helper()
		return configView("Entrypoint")(t, p) + " " + configView("Cmd")(t, p)
	}
	checkPlans(t, both, []planCase{
		{name: "of the base image", text: "FROM full\n", want: `["/ep"] ["c"]`},
		{name: "CMD keeps the entrypoint", text: "FROM full\nCMD [\"d\"]\n", want: `["/ep"] ["d"]`},
		{name: "ENTRYPOINT drops the base image's CMD", text: "FROM full\nENTRYPOINT [\"/e\"]\n", want: `["/e"] `},
		{name: "but not one of this stage", text: "FROM full\nCMD [\"d\"]\nENTRYPOINT [\"/e\"]\n", want: `["/e"] ["d"]`},
		{name: "nor a later one", text: "FROM full\nENTRYPOINT [\"/e\"]\nCMD [\"d\"]\n", want: `["/e"] ["d"]`},
		{name: "CMD of an earlier stage", text: "FROM full AS a\nCMD [\"d\"]\nFROM a\nENTRYPOINT [\"/e\"]\n", want: `["/e"] `},
		{name: "shell form", text: "FROM bare\nCMD a  $B c\n", want: ` ["/bin/sh","-c","a  $B c"]`},
		{name: "shell of the base image", text: "FROM full\nENTRYPOINT a b\n", want: `["/bin/bash","-c","a b"] `},
		{name: "shell of the stage", text: "FROM full\nSHELL [\"s\",\"-x\"]\nCMD a\n", want: `["/ep"] ["s","-x","a"]`},
		{name: "a later SHELL does not count", text: "FROM bare\nCMD a\nSHELL [\"s\"]\n", want: ` ["/bin/sh","-c","a"]`},
		{name: "variables stay in JSON", text: "FROM bare\nENV A=1\nCMD [\"$A\"]\n", want: ` ["$A"]`},
		{name: "empty list", text: "FROM full\nCMD []\n", want: `["/ep"] `},
	})
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("Healthcheck"), []planCase{
		{name: "of the base image", text: "FROM full\n", want: `{"Test":["CMD","true"],"Interval":1000000000}`},
		{name: "none", text: "FROM full\nHEALTHCHECK NONE\n", want: `{"Test":["NONE"]}`},
		{name: "replaces all", text: "FROM full\nHEALTHCHECK CMD a b\n", want: `{"Test":["CMD-SHELL","a b"]}`},
		{name: "all flags", text: "FROM bare\nHEALTHCHECK --interval=1m --timeout=2s --start-period=3s --start-interval=4s --retries=5 CMD [\"a\"]\n",
			want: `{"Test":["CMD","a"],"Interval":60000000000,"Timeout":2000000000,"StartPeriod":3000000000,"StartInterval":4000000000,"Retries":5}`},
		{name: "none with a command", text: "FROM bare\nHEALTHCHECK NONE a\n", err: "Dockerfile:2: HEALTHCHECK NONE takes no arguments"},
		{name: "no command", text: "FROM bare\nHEALTHCHECK CMD\n", err: "Dockerfile:2: Missing command after HEALTHCHECK CMD"},
		{name: "retries", text: "FROM bare\nHEALTHCHECK --retries=-1 CMD a\n", err: "Dockerfile:2: --retries cannot be negative (-1)"},
		{name: "not a duration", text: "FROM bare\nHEALTHCHECK --timeout=5 CMD a\n", err: `Dockerfile:2: "5" is not a duration, such as 30s`},
	})
}

func TestStopSignal(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("StopSignal"), []planCase{
		{name: "name", text: "FROM full\nSTOPSIGNAL SIGTERM\n", want: `"SIGTERM"`},
		{name: "short name", text: "FROM full\nSTOPSIGNAL term\n", want: `"term"`},
		{name: "number", text: "FROM full\nSTOPSIGNAL 9\n", want: `"9"`},
		{name: "real-time", text: "FROM full\nSTOPSIGNAL SIGRTMIN+3\n", want: `"SIGRTMIN+3"`},
		{name: "variable", text: "FROM full\nARG S=SIGHUP\nSTOPSIGNAL $S\n", want: `"SIGHUP"`},
		{name: "typing error", text: "FROM full\nSTOPSIGNAL sigtrem\n", err: "Dockerfile:2: invalid signal: sigtrem (did you mean SIGTERM?)"},
		{name: "nothing like it", text: "FROM full\nSTOPSIGNAL SIGNALLING\n", err: "Dockerfile:2: invalid signal: SIGNALLING"},
		{name: "zero", text: "FROM full\nSTOPSIGNAL 0\n", err: "Dockerfile:2: invalid signal: 0"},
		{name: "empty variable", text: "FROM full\nARG S\nSTOPSIGNAL x$S\n", err: "Dockerfile:3: invalid signal: x (did you mean IO?)"},
	})
}

func TestShell(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("Shell"), []planCase{
		{name: "of the base image", text: "FROM full\n", want: `["/bin/bash","-c"]`},
		{name: "of the stage", text: "FROM full\nSHELL [\"a\"]\n", want: `["a"]`},
		{name: "of the stage below", text: "FROM full AS a\nSHELL [\"a\", \"b c\"]\nFROM a\n", want: `["a","b c"]`},
		{name: "no JSON", text: "FROM full\nSHELL a\n", err: "Dockerfile:2: SHELL requires the arguments to be in JSON form"},
	})
	for text, want := range map[string]string{
		"FROM bare\nRUN a\n":                                "/bin/sh -c a",
		"FROM bare\nRUN [\"a\"]\n":                          "a",
		"FROM full\nRUN a\n":                                "/bin/bash -c a",
		"FROM bare\nSHELL [\"s\"]\nRUN <<E\na\nE\n":         "s a\n",
		"FROM bare\nSHELL [\"s\"]\nRUN [\"a\"]\nRUN b\n":    "s b",
		"FROM bare AS a\nSHELL [\"s\"]\nFROM bare\nRUN a\n": "/bin/sh -c a",
		"FROM bare\nSHELL [\"\"]\nRUN a\n":                  " a",
		"FROM bare\nRUN <<E\n#!/bin/cat\nE\n":               "/bin/sh -c /dev/pipes/E",
		"FROM bare\nRUN cat <<A - <<B\n1\nA\n2\nB\n":        "/bin/sh -c cat <<A - <<B\n1\nA\n2\nB",
		"# escape=`\nFROM bare\nRUN a ` \n b\n":             "/bin/sh -c a  b",
	} {
		run := lastRun(t, mustPlan(t, text, nil))
		got := ""
		for i, a := range run.Args {
			if i > 0 {
				got += " "
			}
			got += a
		}
		if got != want {
			t.Errorf("%q runs %q, want %q", text, got, want)
		}
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("User"), []planCase{
		{name: "of the base image", text: "FROM full\n", want: `"app"`},
		{name: "replaced", text: "FROM full\nUSER 1:2\n", want: `"1:2"`},
		{name: "variable", text: "FROM full\nARG U=me\nUSER $U:staff\n", want: `"me:staff"`},
		{name: "two words", text: "FROM full\nUSER a b\n", want: `"a b"`},
		{name: "none", text: "FROM full\nUSER\n", err: "Dockerfile:2: USER requires exactly one argument"},
	})
	p := mustPlan(t, "FROM full\nRUN a\nUSER root\nRUN b\n", nil)
	if got := lastRun(t, p).User; got != "root" {
		t.Errorf("the command runs as %s, want root", got)
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("Volumes"), []planCase{
		{name: "added to the base image's", text: "FROM full\nVOLUME /w\n", want: `{"/v":{},"/w":{}}`},
		{name: "relative ones stay so", text: "FROM bare\nWORKDIR /x\nVOLUME a /b/../c\n", want: `{"/b/../c":{},"a":{}}`},
		{name: "variables", text: "FROM bare\nARG A=/a\nVOLUME $A ${B:-/b}\n", want: `{"/a":{},"/b":{}}`},
		{name: "variables in JSON", text: "FROM bare\nARG A=/a\nVOLUME [\"$A\"]\n", want: `{"/a":{}}`},
		{name: "one empty", text: "FROM bare\nARG A\nVOLUME /b $A\n", err: "Dockerfile:3: VOLUME specified can not be an empty string"},
	})
}

func TestLabels(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("Labels"), []planCase{
		{name: "of the base image", text: "FROM debian:12\nLABEL a=1\n", want: `{"a":"1","base":"debian"}`},
		{name: "replaces the base image's", text: "FROM debian:12\nLABEL base=mine\n", want: `{"base":"mine"}`},
		{name: "options win", text: "FROM debian:12\nLABEL a=1 b=2\n", options: `{"Labels":{"a":"x","c":"y"}}`, want: `{"a":"x","b":"2","base":"debian","c":"y"}`},
		{name: "options alone", text: "FROM bare\n", options: `{"Labels":{"c":""}}`, want: `{"c":""}`},
		{name: "variables in both halves", text: "FROM bare\nARG A=1\nLABEL k$A=v$A\n", want: `{"k1":"v1"}`},
		{name: "single quotes", text: "FROM bare\nARG A=1\nLABEL a='$A' b=\"$A b\"\n", want: `{"a":"$A","b":"1 b"}`},
		{name: "none in the base's stage", text: "FROM bare AS a\nLABEL a=1\nFROM bare\nCOPY --from=a / /\n", want: ""},
	})
}

func TestWorkdir(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("WorkingDir"), []planCase{
		{name: "scratch", text: "FROM scratch\n", want: `"/"`},
		{name: "relative to scratch", text: "FROM scratch\nWORKDIR a\n", want: `"/a"`},
		{name: "relative to the base image's", text: "FROM full\nWORKDIR a\n", want: `"/srv/a"`},
		{name: "up", text: "FROM full\nWORKDIR ../../a\n", want: `"/a"`},
		{name: "absolute ones stay as written", text: "FROM full\nWORKDIR /a//b/\n", want: `"/a//b/"`},
		{name: "several", text: "FROM full\nWORKDIR a\nWORKDIR b\nWORKDIR /c\nWORKDIR d\n", want: `"/c/d"`},
		{name: "variable", text: "FROM full\nENV A=/x\nWORKDIR $A/y\n", want: `"/x/y"`},
	})
	checkPlans(t, rootView, []planCase{
		{name: "root makes no layer", text: "FROM scratch\nWORKDIR /\nWORKDIR /a/..\n", want: "scratch"},
		{name: "clean path in the step", text: "FROM scratch\nWORKDIR /a//b/\n", want: `{"op":"workdir","path":"/a/b"}`},
		{name: "owner", text: "FROM scratch\nUSER 5\nWORKDIR /a\n", want: `{"op":"workdir","path":"/a","user":"5"}`},
		{name: "epoch", text: "FROM scratch\nWORKDIR /a\n", options: `{"Epoch":7}`, want: `{"op":"workdir","path":"/a","epoch":7}`},
	})
}

func TestJoinWorkdir(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ current, dir, want string }{
		{"", "", "/"}, {"", "a", "/a"}, {"/a", "", "/a"}, {"/a", "/b/", "/b/"}, {"/a", "b/../c", "/a/c"}, {"a", "b", "/a/b"}, {"/a", "../../..", "/"},
	} {
		if got := joinWorkdir(test.current, test.dir); got != test.want {
			t.Errorf("%q in %q is %q, want %q", test.dir, test.current, got, test.want)
		}
	}
}

func TestOnbuildIsStored(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("OnBuild"), []planCase{
		{name: "as written", text: "FROM bare\nARG A=1\nONBUILD RUN  echo $A\nONBUILD copy a b\n", want: `["RUN  echo $A","copy a b"]`},
		{name: "run ones are dropped", text: "FROM onbuild\n", want: ""},
		{name: "dropped from the stage below", text: "FROM bare AS a\nONBUILD ENV A=1\nFROM a\n", want: ""},
		{name: "checked when it runs", text: "FROM bare\nONBUILD COPY --from=nowhere a b\n", want: `["COPY --from=nowhere a b"]`},
		{name: "chained", text: "FROM bare\nONBUILD ONBUILD RUN a\n", err: "Dockerfile:2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"},
		{name: "maintainer", text: "FROM bare\nONBUILD MAINTAINER a\n", err: "Dockerfile:2: MAINTAINER isn't allowed as an ONBUILD trigger"},
	})
}

func TestMaintainer(t *testing.T) {
	t.Parallel()
	author := func(_ *testing.T, p *Plan) string { return p.Config.Author }
	checkPlans(t, author, []planCase{
		{name: "of the base image", text: "FROM busybox\n", want: "someone"},
		{name: "replaced", text: "FROM busybox\nMAINTAINER a b <c>\n", want: "a b <c>"},
	})
}
