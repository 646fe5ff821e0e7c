package console

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// shots is a folder for pictures of the views, for the documentation; empty: none are taken.
var shots = flag.String("shots", "", "write pictures of the views into this folder")

// shoot takes a picture of the page, light and dark.
func (b *browser) shoot(name string) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		b.dark(scheme == "dark")
		var png []byte
		b.do("a picture", chromedp.FullScreenshot(&png, 100))
		if err := os.WriteFile(filepath.Join(*shots, name+"-"+scheme+".png"), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.dark(false)
}

// lookLong waits, where pictures are taken, until the charts have so many points.
func (b *browser) lookLong(points int) {
	b.t.Helper()
	if *shots != "" {
		b.waitFor("the charts have a past", fmt.Sprintf("Number(document.getElementById('chart-rate').dataset.points) >= %d", points))
	}
}

// busy keeps the cluster busy, where pictures are taken, until the test ends.
func (c *cluster) busy() {
	if *shots == "" {
		return
	}
	bench := exec.Command(c.program, "bench", "--addr", strings.Join(c.bases[:2], ","), "--workers", "2", "--keys", "500", "--duration", "10m")
	if err := bench.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = bench.Process.Kill()
		_ = bench.Wait() // it says that it was killed
	})
}

// updated waits until the page was brought up to date so many times since it was opened.
func (b *browser) updated(times int) {
	b.t.Helper()
	b.waitFor("the page is kept up to date", fmt.Sprintf("Number(document.body.dataset.updates || 0) >= %d", times))
}

// TestFailureIsVisible breaks a node and sees the ring route around it, hints wait, and data go
// home.
func TestFailureIsVisible(t *testing.T) {
	c := start(t, 4, "--partitions", "32")
	b := newBrowser(t, c.bases[0])
	b.open("/")
	b.shows("summary", "4 of 4 members up")
	b.shows("alerts", "All is well")
	b.updated(3)
	if n := value[int](b, "document.querySelectorAll('#ring path.own').length"); n != 32 {
		t.Errorf("the ring shows %d partitions", n)
	}
	if n := value[int](b, "document.querySelectorAll('#ring .gone, #ring .spare, #ring .hint').length"); n != 0 {
		t.Errorf("a healthy ring shows %d signs of trouble", n)
	}
	c.busy()
	for i := range 40 {
		c.put("shop", fmt.Sprintf("basket%d", i), "apples")
	}
	b.waitFor("puts have a rate", "/put/.test(document.getElementById('rates').textContent)")
	b.waitFor("the charts are drawn", "document.querySelectorAll('.chart canvas').length === 2 && Number(document.getElementById('chart-rate').dataset.points) > 2")
	b.lookLong(60)
	b.shoot("healthy")

	c.dev("kill", "3")
	b.shows("alerts", "n3 is down")
	b.shows("alerts", "Start it again")
	b.shows("summary", "3 of 4 members up")
	b.waitFor("the ring routes around the node", "document.querySelectorAll('#ring path.gone').length === 1 && document.querySelectorAll('#ring path.spare').length > 0")
	b.waitFor("the member is shown to be down", "document.querySelector('#members .state.down') !== null")
	for i := range 40 {
		c.put("shop", fmt.Sprintf("basket%d", i), "pears")
	}
	b.waitFor("hints wait", "document.querySelectorAll('#ring path.hint').length > 0")
	b.lookLong(75)
	b.shoot("failed")
	b.open("/activity")
	b.shows("hints", "waits for n3")
	b.shows("repair", "not known")
	b.open("/ring")
	b.shows("ringtable", "stands in")

	c.dev("start", "3")
	b.open("/")
	b.shows("alerts", "All is well")
	b.waitFor("data goes home", "document.querySelectorAll('#ring .gone, #ring .spare, #ring .hint').length === 0")
	b.open("/activity")
	b.shows("hints", "all data is at home")
}

// TestTransfersAreVisible adds a node and sees partitions go to it.
func TestTransfersAreVisible(t *testing.T) {
	c := start(t, 3, "--partitions", "64")
	c.busy()
	c.run("cluster", "limits", "--per-node", "1", "--addr", c.bases[0])
	for i := range 60 {
		c.put("shop", fmt.Sprintf("basket%d", i), strings.Repeat("apples ", 2000))
	}
	c.run("cluster", "limits", "--rate", "20KiB", "--addr", c.bases[0])
	b := newBrowser(t, c.bases[0])
	b.open("/")
	c.dev("add")
	b.waitFor("the next owners are shown", "document.querySelectorAll('#ring path.next').length > 0")
	b.shows("summary", "4 of 4 members up")
	b.lookLong(20)
	b.shoot("transfer")
	b.open("/activity")
	b.waitFor("a transfer has progress", "document.querySelector('#transfers progress') !== null")
	b.shows("transfers", "copying")
	b.shoot("activity")
	c.run("cluster", "limits", "--rate", "0", "--addr", c.bases[0])
	b.shows("transfers", "No partition changes its owner")
}

// TestKeysAndRequests looks into keys, and watches requests.
func TestKeysAndRequests(t *testing.T) {
	c := start(t, 3, "--partitions", "16")
	c.put("shop", "basket", "apples")
	c.run("put", "shop", "%00%FF<script>alert(1)</script>", "x", "--encoded", "--addr", c.bases[0])
	b := newBrowser(t, c.bases[0])

	b.open("/keys")
	b.do("looking into the bucket", chromedp.Click(`//a[text()="shop"]`, chromedp.BySearch), chromedp.WaitVisible(`//a[text()="basket"]`, chromedp.BySearch))
	if at := value[string](b, "location.search"); !strings.Contains(at, "bucket=shop") {
		t.Errorf("the address is %q", at)
	}
	b.do("looking at a name that is no text", chromedp.Click(`//a[contains(text(),"script")]`, chromedp.BySearch), chromedp.WaitVisible(`//h2[text()="The value"]`, chromedp.BySearch))
	if at := value[string](b, "document.activeElement.id"); at != "explorer" {
		t.Errorf("the keyboard goes on from %q", at)
	}
	b.do("going back", chromedp.Evaluate("history.back()", nil), chromedp.WaitVisible(`//h2[text()="Keys in shop"]`, chromedp.BySearch))
	b.do("and forth", chromedp.Evaluate("history.forward()", nil), chromedp.WaitVisible(`//h2[text()="The value"]`, chromedp.BySearch))
	if n := value[int](b, "document.querySelectorAll('#explorer script').length"); n != 0 {
		t.Errorf("a key has become %d scripts", n)
	}
	b.do("watching it", chromedp.Click(`//a[text()="Watch a request for this key"]`, chromedp.BySearch), chromedp.WaitVisible("#watch-form"))
	b.do("running it", chromedp.Click("#watch-form button"))
	b.shows("story", "one value")
	b.shows("verdict", "Answered")

	b.open("/keys?bucket=shop&key=basket")
	b.waitFor("all replicas hold it", "document.querySelectorAll('#explorer table tbody tr').length === 3 && !/behind|nothing/.test(document.querySelector('#explorer table').textContent)")
	b.shoot("keys")

	b.open("/watch?bucket=shop&key=basket")
	b.do("a put", chromedp.Click("input[value=put]"), chromedp.SetValue("textarea[name=value]", "pears"), chromedp.SetValue("select[name=quorum]", "all"), chromedp.Click("#watch-form button"))
	b.waitFor("the story is over", "document.getElementById('story').dataset.over === 'true'")
	for _, text := range []string{"prepare", "make the new version", "store this version", "W 3/3: met", "Answered"} {
		b.shows("story", text)
	}
	if n := value[int](b, "document.querySelectorAll('#story svg.bars rect.ok').length"); n != 3 {
		t.Errorf("%d replicas have stored it, want 3", n)
	}

	// A frozen node is slow: its silence can be seen while it lasts.
	c.dev("pause", "2")
	b.do("a get that waits", chromedp.Click("input[value=get]"), chromedp.SetValue("select[name=quorum]", "all"), chromedp.Click("#watch-form button"))
	b.waitFor("a question is open", "document.querySelector('#story svg.bars rect.open') !== null")
	b.shoot("watching")
	b.waitFor("the story is over", "document.getElementById('story').dataset.over === 'true'")
	b.shoot("watched")
	c.dev("resume", "2")
}

// TestAStoppedNodeIsNoticed stops the node that serves the console.
func TestAStoppedNodeIsNoticed(t *testing.T) {
	c := start(t, 3, "--partitions", "8")
	b := newBrowser(t, c.bases[1])
	b.open("/")
	b.updated(2)
	b.allow()
	c.dev("stop", "2") // it does not wait for the stream
	b.shows("connection", "does not answer")
	c.dev("start", "2")
	b.waitFor("it goes on", "document.getElementById('connection').hidden")
}

// TestReadersOfAllKinds checks the colours of both schemes, the policy, and the ways of the keyboard.
func TestReadersOfAllKinds(t *testing.T) {
	c := start(t, 1, "--partitions", "1024")
	b := newBrowser(t, c.bases[0])
	b.open("/")
	b.updated(2)
	if n := value[int](b, "document.querySelectorAll('#ring path.own').length"); n != 1024 {
		t.Errorf("a ring of 1024 shows %d partitions", n)
	}
	ground := "getComputedStyle(document.body).backgroundColor"
	light := value[string](b, ground)
	b.dark(true)
	if dark := value[string](b, ground); dark == light {
		t.Errorf("light and dark are both %s", light)
	}
	b.dark(false)
	b.do("the keyboard", chromedp.KeyEvent("\t"))
	if text := value[string](b, "document.activeElement.textContent"); text != "To the content" {
		t.Errorf("the first stop of the keyboard is %q", text)
	}
	for _, view := range []string{"/", "/activity", "/ring", "/keys", "/watch"} {
		b.open(view)
		if n := value[int](b, "document.querySelectorAll('main h1').length"); n != 1 {
			t.Errorf("%s has %d headings of the first level", view, n)
		}
		if n := value[int](b, "[...document.querySelectorAll('input,select,textarea')].filter((e) => e.labels.length === 0).length"); n != 0 {
			t.Errorf("%s has %d fields without a label", view, n)
		}
		if text := value[string](b, "document.querySelector('nav [aria-current]')?.textContent ?? ''"); text == "" && view != "/ring" {
			t.Errorf("%s is not marked in the navigation", view)
		}
	}
	// The policy holds: a script that was injected does not run.
	b.allow()
	b.do("injecting", chromedp.ActionFunc(func(ctx context.Context) error {
		return chromedp.Evaluate(`const s = document.createElement("script"); s.textContent = "window.injected = true"; document.body.append(s)`, nil).Do(ctx)
	}))
	if value[bool](b, "window.injected === true") {
		t.Error("a script inside the page has run")
	}
}
