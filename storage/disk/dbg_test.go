package disk
import ("testing";"fmt";"os";"path/filepath")
func TestDbg(t *testing.T){
 dir:=t.TempDir()
 e:=open(t,dir,Options{})
 for r:=range 4 { for i:=range 50 { put(t,e,fmt.Sprintf("key %04d",i+r*50),damagedValue(i+r*50)) }; e.db.Flush() }
 closing(t,e)
 l,_:=filepath.Glob(dir+"/*")
 for _,f:=range l { s,_:=os.Stat(f); fmt.Println(filepath.Base(f),s.Size()) }
 m,_:=filepath.Glob(dir+"/MANIFEST*")
 w,_:=os.ReadFile(m[len(m)-1])
 for n:=0;n<len(w);n++ {
  c:=t.TempDir(); os.CopyFS(c,os.DirFS(dir)); os.WriteFile(filepath.Join(c,filepath.Base(m[len(m)-1])),w[:n],0o600)
  e,err:=Open(c,Options{CacheBytes:testCache})
  if err!=nil { fmt.Print(n,":R "); continue }
  k:=0
  e.Scan(nil,nil,func(_,_ []byte)bool{k++;return true})
  fmt.Print(n,":",k," ")
  e.Close()
 }
}
