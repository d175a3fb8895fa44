"""What can be wrong with a long text: a job on the server, or a file that `say` reads."""

from cosyserve.errors.fault import Fault

JOB_ABSENT = Fault(
    "CS-JOB-001",
    404,
    "There is no job of that id here.",
    "GET /v1/audio/jobs lists your jobs. A finished one is kept for COSYSERVE_JOB_HOURS.",
    "没有这个编号的任务。",
    "GET /v1/audio/jobs 可列出您的任务。已结束的任务保留 COSYSERVE_JOB_HOURS 小时。",
)
JOB_UNFINISHED = Fault(
    "CS-JOB-002",
    409,
    "The job has no audio yet: it is {status}.",
    "Ask GET /v1/audio/jobs/ID until its status is 'done'. If it is 'failed', its 'error' says why.",
    "任务尚无音频，当前状态为 {status}。",
    "请查询 GET /v1/audio/jobs/编号，直到 status 为 done；若为 failed，原因见 error。",
)
JOBS_FULL = Fault(
    "CS-JOB-003",
    429,
    "The server already keeps {limit} jobs, which is the most it may have.",
    "Delete jobs that are no longer needed (DELETE /v1/audio/jobs/ID), or raise COSYSERVE_MAX_JOBS on the server.",
    "服务器已保存 {limit} 个任务，达到上限。",
    "请删除不再需要的任务（DELETE /v1/audio/jobs/编号），或在服务器上调大 COSYSERVE_MAX_JOBS。",
)
JOBS_STORAGE = Fault(
    "CS-JOB-004",
    507,
    "There is no room for the audio of jobs: {reason}.",
    "Delete jobs that are no longer needed, free space on the disk of COSYSERVE_STATE_DIR, or raise "
    "COSYSERVE_JOB_BYTES.",
    "没有空间保存任务的音频：{reason_zh}。",
    "请删除不再需要的任务，清理 COSYSERVE_STATE_DIR 所在磁盘，或调大 COSYSERVE_JOB_BYTES。",
)
JOB_TOO_LONG = Fault(
    "CS-JOB-005",
    400,
    "The text has {length} characters; a job on this server takes {limit}.",
    "Send it in several jobs, or raise COSYSERVE_MAX_JOB_CHARS on the server.",
    "文本有 {length} 个字符，本服务器的一个任务最多接受 {limit} 个。",
    "请分成多个任务发送，或在服务器上调大 COSYSERVE_MAX_JOB_CHARS。",
)
JOB_ENDS_SERVER = Fault(
    "CS-JOB-006",
    500,
    "The server ended {times} times while it spoke the same part of this job, so it no longer tries.",
    "Look in the server's log for why it ended, correct that, and send the text again.",
    "在合成该任务的同一部分时，服务器已意外退出 {times} 次，因此不再重试。",
    "请在服务器日志中查看退出原因，解决后重新提交文本。",
)
RANGE_OUTSIDE = Fault(
    "CS-JOB-007",
    416,
    "The audio has {size} bytes, and the part that was asked for lies outside.",
    "Ask for a part that begins before its end, or leave the header Range out.",
    "音频共 {size} 字节，请求的范围超出其外。",
    "请求的范围须从文件末尾之前开始；或去掉请求头 Range。",
)
JOB_DAMAGED = Fault(
    "CS-JOB-008",
    410,
    "A file of this job is damaged or missing: {name}.",
    "Send the text again. If this happens often, check the disk of COSYSERVE_STATE_DIR.",
    "该任务的文件已损坏或缺失：{name}。",
    "请重新提交文本。若经常出现，请检查 COSYSERVE_STATE_DIR 所在的磁盘。",
)
PASSAGE_DAMAGED = Fault(
    "CS-BOOK-002",
    410,
    "A passage that was spoken before could not be read back: {path}. It has been removed.",
    "Run the same command again, which speaks this passage once more; a job has to be sent again.",
    "之前合成的段落无法读取：{path}，已将其删除。",
    "请再次运行同一命令，该段落会重新合成；如为任务，请重新提交。",
)
BOOK_UNREADABLE = Fault(
    "CS-BOOK-001",
    400,
    "The file {path} cannot be read as a book: {reason}.",
    "Give a text in UTF-8 or GB 18030 (.txt), Markdown (.md), or an EPUB without copy protection (.epub).",
    "无法将文件 {path} 作为书籍读取：{reason_zh}。",
    "请提供 UTF-8 或 GB 18030 编码的文本（.txt）、Markdown（.md），或没有版权保护（DRM）的 EPUB（.epub）。",
)
