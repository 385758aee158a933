

   # leading comment
	from   debian:12   as   Base
	run	echo   'a   b'   \

		&&   true
Label   a=b    c="d   e"   f='g h' \
   i=j\ k
copy [ "a b" , "c" , "/d/" ]
expose 80/TCP 90-92
FROM Base
cmd [ "x" ,"y" ]   
   workdir  /x/../y/
user   1000:1000   
